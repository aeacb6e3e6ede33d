// One request and its answer, as the endpoint modules see it.

import type { IncomingMessage, ServerResponse } from "node:http";
import { ServiceError } from "./errors.ts";
import { isObject, type JsonObject } from "./json.ts";
import type { State } from "./state.ts";
import type { HttpAnswer, RequestRecord } from "./types.ts";
import { sleep } from "./wire.ts";

export class Exchange {
  readonly state: State;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly record: RequestRecord;
  /** Fires when the connection is closed by either side. */
  readonly gone: AbortSignal;

  constructor(
    state: State,
    request: IncomingMessage,
    response: ServerResponse,
    record: RequestRecord,
    gone: AbortSignal,
  ) {
    this.state = state;
    this.request = request;
    this.response = response;
    this.record = record;
    this.gone = gone;
  }

  json(status: number, body: JsonObject, headers: Record<string, string> = {}): void {
    this.send(status, JSON.stringify(body), { "content-type": "application/json; charset=utf-8", ...headers });
  }

  send(status: number, body: string, headers: Record<string, string> = {}): void {
    if (this.gone.aborted) return;
    const bytes = Buffer.from(body);
    this.record.status = status;
    this.record.sentBytes = bytes.length;
    this.response.writeHead(status, {
      "x-trace-id": this.record.traceId,
      "content-length": String(bytes.length),
      ...headers,
    });
    this.response.end(bytes);
    this.state.log.changed(this.record);
  }

  /** An answer given by a script. Error bodies also go into the record, so that a test can name what it saw. */
  async answer(answer: HttpAnswer): Promise<void> {
    await sleep(answer.delayMs ?? 0, this.gone);
    const { body } = answer;
    const text = typeof body === "string" ? body : JSON.stringify(body ?? {});
    const type = typeof body !== "string" ? "application/json" : body.startsWith("<") ? "text/html" : "text/plain";
    const error = isObject(body) ? body["error"] : undefined;
    if (isObject(error) && typeof error["message"] === "string") this.record.error = error["message"];
    this.send(answer.status, text, { "content-type": type, ...answer.headers });
  }

  refuse(error: ServiceError): void {
    this.record.error = error.message;
    this.json(error.status, error.body(this.record.endpoint === "messages" ? "anthropic" : "openai"));
  }

  /** Never answers: with `headers` a response head is started and left open. Resolves when the connection is gone. */
  async hang(how: "connect" | "headers"): Promise<void> {
    if (how === "headers") this.response.socket?.write("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n");
    await this.untilGone();
  }

  async untilGone(): Promise<void> {
    if (this.gone.aborted) return;
    await new Promise<void>((resume) => this.gone.addEventListener("abort", () => resume(), { once: true }));
  }

  /** The body as an object, or the refusal the service gives to anything else. */
  jsonBody(): JsonObject {
    if (isObject(this.record.json)) return this.record.json;
    throw new ServiceError(400, "invalid_request_error", "Invalid request: the request body is not a JSON object");
  }
}
