// HTTP front: reads a request, records it, applies interceptions, credentials and identity, and passes it to its route. Whatever
// a handler throws becomes an answer; no request can end the process.

import { randomBytes } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { handleAdmin } from "./admin.ts";
import { authKind, checkCredential, checkIdentity } from "./auth.ts";
import { routes as catalogRoutes } from "./catalog.ts";
import { notFound, ServiceError, tooLarge } from "./errors.ts";
import { Exchange } from "./exchange.ts";
import { routes as fileRoutes } from "./files.ts";
import { routes as generationRoutes } from "./generation.ts";
import { parseJson } from "./json.ts";
import { routes as oauthRoutes } from "./oauth.ts";
import { findRoute, type Route } from "./routes.ts";
import { routes as serviceRoutes } from "./services.ts";
import type { State } from "./state.ts";
import type { RequestRecord } from "./types.ts";
import { routes as usageRoutes } from "./usage.ts";
import { sleep } from "./wire.ts";

const ROUTES: readonly Route[] = [
  ...generationRoutes,
  ...catalogRoutes,
  ...fileRoutes,
  ...oauthRoutes,
  ...serviceRoutes,
  ...usageRoutes,
];

export function createFront(state: State): { server: Server; sockets: Set<Socket> } {
  const sockets = new Set<Socket>();
  const ordinals = new WeakMap<Socket, number>();
  let connections = 0;
  const server = createServer((request, response) => {
    const ordinal = ordinals.get(request.socket) ?? 0;
    void serve(state, request, response, ordinal).catch((error: unknown) => {
      process.emitWarning(`simulator: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
      response.destroy();
    });
  });
  // Silent phases of minutes are valid here; each test sets its own timeout.
  server.requestTimeout = 0;
  server.keepAliveTimeout = 60_000;
  server.on("connection", (socket: Socket) => {
    ordinals.set(socket, ++connections);
    sockets.add(socket);
    socket.setNoDelay(true);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => undefined);
  });
  return { server, sockets };
}

async function serve(state: State, request: IncomingMessage, response: ServerResponse, ordinal: number): Promise<void> {
  const url = request.url ?? "/";
  const mark = url.indexOf("?");
  const path = mark < 0 ? url : url.slice(0, mark);
  if (path.startsWith("/__admin/")) return handleAdmin(state, request, response, path);

  const method = request.method ?? "GET";
  const found = findRoute(ROUTES, method, path);
  const route = "route" in found ? found.route : undefined;
  const record = newRecord(state, request, ordinal, { method, path, query: mark < 0 ? "" : url.slice(mark) });
  record.endpoint = route?.endpoint ?? "unknown";

  const gone = new AbortController();
  response.on("close", () => {
    if (record.ended === undefined) record.ended = response.writableFinished ? "complete" : "aborted";
    record.endedAt = Date.now();
    record.aborted = record.ended === "aborted";
    gone.abort();
    state.log.changed(record);
  });
  const exchange = new Exchange(state, request, response, record, gone.signal);

  const complete = await readBody(request, record, state.settings.maxBodyBytes);
  state.log.add(record);
  if (gone.signal.aborted) return;
  try {
    if (!complete) throw tooLarge();
    if (await intercepted(exchange)) return;
    if ("allowed" in found && found.allowed.length > 0) throw wrongMethod();
    if (route === undefined) throw notFound(method, path);
    if (route.credential) checkCredential(record.headers, (token) => state.accepts(token));
    if (route.identity) checkIdentity(record.headers, state.settings.identityGate);
    await route.handle(exchange);
  } catch (error) {
    if (!(error instanceof ServiceError) || response.headersSent) throw error;
    exchange.refuse(error);
  }
}

async function intercepted(exchange: Exchange): Promise<boolean> {
  const answer = exchange.state.takeInterception(exchange.record);
  if (answer === undefined) return false;
  exchange.record.scenario = "interception";
  if (answer.hang !== undefined) {
    await exchange.hang(answer.hang);
    return true;
  }
  const { status } = answer;
  if (status === undefined) {
    await sleep(answer.delayMs ?? 0, exchange.gone);
    return exchange.gone.aborted;
  }
  await exchange.answer({ ...answer, status });
  return true;
}

function wrongMethod(): ServiceError {
  return new ServiceError(405, "invalid_request_error", "Method Not Allowed");
}

function newRecord(
  state: State,
  request: IncomingMessage,
  connection: number,
  target: { method: string; path: string; query: string },
): RequestRecord {
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(request.headers)) {
    if (value !== undefined) headers[name] = Array.isArray(value) ? value.join(", ") : value;
  }
  return {
    id: state.log.nextId(),
    time: Date.now(),
    connection,
    ...target,
    endpoint: "unknown",
    httpVersion: request.httpVersion,
    headerOrder: request.rawHeaders.filter((_, index) => index % 2 === 0),
    headers,
    rawBody: Buffer.alloc(0),
    json: undefined,
    auth: authKind(headers),
    traceId: randomBytes(16).toString("hex"),
    model: undefined,
    usage: undefined,
    status: undefined,
    error: undefined,
    scenario: undefined,
    aborted: false,
    ended: undefined,
    endedAt: undefined,
    sentEvents: 0,
    sentBytes: 0,
  };
}

/** Reads the record's body. Returns false if it exceeds the limit (the rest is read and discarded). */
async function readBody(request: IncomingMessage, record: RequestRecord, limit: number): Promise<boolean> {
  const pieces: Buffer[] = [];
  let size = 0;
  try {
    for await (const piece of request as AsyncIterable<Buffer>) {
      size += piece.length;
      if (size <= limit) pieces.push(piece);
    }
  } catch {
    // The client left in the middle of its body; the close handler records that.
  }
  if (size > limit) return false;
  record.rawBody = Buffer.concat(pieces);
  const multipart = (record.headers["content-type"] ?? "").startsWith("multipart/");
  if (size > 0 && !multipart) {
    const parsed = parseJson(record.rawBody.toString("utf8"));
    if (parsed.ok) record.json = parsed.value;
  }
  return true;
}
