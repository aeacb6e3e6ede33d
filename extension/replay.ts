/**
 * Serves a recording (`KIMI_CODE_RECORD`) on the loopback: the same bytes, at the speed of the recording or at once.
 */
import { readdirSync, readFileSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

/** How an answer ended. `aborted`: the client did not wait for it. */
type Ending = "complete" | "broken" | "aborted";

/** One recorded request and its answer. Times are milliseconds since the request. */
interface Exchange {
  method: string;
  path: string;
  /** `undefined` if the recording has no answer, because the connection failed. */
  answer:
    | {
        status: number;
        headers: Record<string, string>;
        afterMs: number;
        chunks: { afterMs: number; bytes: Buffer }[];
        end: Ending;
        endMs: number;
      }
    | undefined;
}

export interface ReplayOptions {
  /** Default 0: any free port. */
  port?: number;
  /** Sends without the pauses of the recording. */
  atOnce?: boolean;
}

export interface Replay {
  /** Base URL for clients. */
  url: string;
  /** Number of recorded exchanges. */
  exchanges: number;
  close(): Promise<void>;
}

/** Reads a recording, in the order of its requests. Throws if there is none. */
function readRecording(folder: string): Exchange[] {
  const read = (...path: string[]): Buffer | undefined => {
    try {
      return readFileSync(join(folder, ...path));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
      throw error;
    }
  };
  const parse = <T>(...path: string[]): T | undefined => {
    const text = read(...path)?.toString("utf8");
    if (text === undefined) return undefined;
    try {
      return JSON.parse(text) as T;
    } catch {
      throw new Error(`${join(folder, ...path)} is not JSON`);
    }
  };
  const names = readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  const exchanges = names.flatMap(({ name }) => {
    const request = parse<{ method: string; path: string; startedAt: number }>(name, "request.json");
    if (request === undefined) return [];
    const head = parse<{ status: number; headers: Record<string, string>; afterMs: number }>(name, "response.json");
    // A program that was killed wrote no end.
    const end = parse<{ end: string; afterMs: number }>(name, "end.json");
    const chunks = head === undefined ? [] : readChunks(read(name, "response.body"), read(name, "response.timing"));
    const ending: Ending = end?.end === "complete" || end?.end === "broken" ? end.end : "aborted";
    const answer = head && { ...head, chunks, end: ending, endMs: end?.afterMs ?? chunks.at(-1)?.afterMs ?? 0 };
    return [{ name, startedAt: request.startedAt, method: request.method, path: request.path, answer }];
  });
  if (exchanges.length === 0) throw new Error(`${folder} holds no recording`);
  return exchanges.toSorted((a, b) => a.startedAt - b.startedAt || (a.name < b.name ? -1 : 1));
}

function readChunks(body: Buffer | undefined, timing: Buffer | undefined): { afterMs: number; bytes: Buffer }[] {
  if (body === undefined) return [];
  const chunks: { afterMs: number; bytes: Buffer }[] = [];
  let at = 0;
  for (const [, afterMs = "", size = ""] of (timing?.toString("utf8") ?? "").matchAll(/^([\d.]+) (\d+)$/gm)) {
    chunks.push({ afterMs: Number(afterMs), bytes: body.subarray(at, at + Number(size)) });
    at += Number(size);
  }
  // The last time is missing where the program was killed in between.
  if (at < body.length) chunks.push({ afterMs: chunks.at(-1)?.afterMs ?? 0, bytes: body.subarray(at) });
  return chunks;
}

/**
 * Starts to serve a recording. Equal requests (method and path) are answered in their recorded order; the last answer repeats. Rejects
 * if there is no recording or the port is in use.
 */
export async function startReplay(folder: string, { port = 0, atOnce = false }: ReplayOptions = {}): Promise<Replay> {
  const exchanges = readRecording(folder);
  const queues = new Map<string, Exchange[]>();
  for (const exchange of exchanges) {
    const key = `${exchange.method} ${exchange.path}`;
    queues.set(key, [...(queues.get(key) ?? []), exchange]);
  }
  const server = createServer((request, response) => {
    const key = `${request.method ?? "GET"} ${(request.url ?? "/").replace(/^\/coding(?=\/)/, "")}`;
    const queue = queues.get(key) ?? [];
    const exchange = queue.length > 1 ? queue.shift() : queue[0];
    serve(request, response, key, exchange, atOnce).catch(() => response.destroy());
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "127.0.0.1", resolve);
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/coding`,
    exchanges: exchanges.length,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function serve(
  request: IncomingMessage,
  response: ServerResponse,
  key: string,
  exchange: Exchange | undefined,
  atOnce: boolean,
): Promise<void> {
  request.resume();
  if (exchange === undefined) {
    const error = { type: "not_recorded", message: `the recording has no answer to ${key}` };
    response.writeHead(404, { "content-type": "application/json" }).end(JSON.stringify({ error }));
    return;
  }
  const { answer } = exchange;
  if (answer === undefined) {
    response.destroy();
    return;
  }
  const started = performance.now();
  const gone = new AbortController();
  response.on("close", () => gone.abort());
  const until = async (afterMs: number): Promise<void> => {
    const pause = started + afterMs - performance.now();
    if (!atOnce && pause > 0) await sleep(pause, undefined, { signal: gone.signal });
  };
  await until(answer.afterMs);
  response.writeHead(answer.status, answer.headers);
  response.flushHeaders();
  for (const { afterMs, bytes } of answer.chunks) {
    await until(afterMs);
    if (!response.write(bytes)) await new Promise((resolve) => response.once("drain", resolve));
  }
  await until(answer.endMs);
  if (answer.end === "complete") response.end();
  // After what was written has left.
  else if (answer.end === "broken") response.write("", () => response.destroy());
}
