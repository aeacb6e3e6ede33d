// Plain clients for the simulator's own tests: fetch for a well-behaved client, a bare socket for the exact bytes.

import { connect } from "node:net";
import type { Json, JsonObject } from "./json.ts";
import type { Simulator } from "./index.ts";

export function clientHeaders(simulator: Simulator): Record<string, string> {
  return {
    authorization: `Bearer ${simulator.apiKey}`,
    "content-type": "application/json",
    "user-agent": "pi/1.5.2 (linux; node/v24)",
  };
}

export function post(simulator: Simulator, path: string, body: unknown, init: RequestInit = {}): Promise<Response> {
  return fetch(`${simulator.baseUrl}${path}`, {
    method: "POST",
    headers: clientHeaders(simulator),
    body: typeof body === "string" ? body : JSON.stringify(body),
    ...init,
  });
}

export function chat(simulator: Simulator, change: JsonObject = {}, init: RequestInit = {}): Promise<Response> {
  const body = { model: "kimi-for-coding", stream: true, messages: [{ role: "user", content: "hi" }], ...change };
  return post(simulator, "/v1/chat/completions", body, init);
}

export function messages(simulator: Simulator, change: JsonObject = {}, init: RequestInit = {}): Promise<Response> {
  const body = {
    model: "kimi-for-coding",
    max_tokens: 32000,
    stream: true,
    messages: [{ role: "user", content: [{ type: "text", text: "hi" }] }],
    ...change,
  };
  return post(simulator, "/v1/messages", body, init);
}

export interface SseEvent {
  event: string | undefined;
  data: string;
}

/** A deliberately simple reader; it is not the client under test. */
export function readEvents(stream: string): SseEvent[] {
  const events: SseEvent[] = [];
  for (const block of stream.replace(/^\ufeff/, "").split(/\r\n\r\n|\n\n|\r\r/)) {
    const lines = block.split(/\r\n|\n|\r/);
    const value = (name: string): string | undefined => {
      const line = lines.find((candidate) => candidate.startsWith(`${name}:`));
      return line?.slice(name.length + 1).replace(/^ /, "");
    };
    const data = value("data");
    if (data !== undefined) events.push({ event: value("event"), data });
  }
  return events;
}

export async function eventsOf(response: Response): Promise<SseEvent[]> {
  return readEvents(await response.text());
}

/** The JSON payloads of a stream, without the end marker. */
export function payloads(events: SseEvent[]): JsonObject[] {
  return events.filter((one) => one.data !== "[DONE]").map((one) => JSON.parse(one.data) as JsonObject);
}

/** Follows a path of member names and indices through JSON. */
export function dig(value: Json | undefined, ...path: (string | number)[]): Json | undefined {
  let here: Json | undefined = value;
  for (const step of path) {
    if (Array.isArray(here) && typeof step === "number") here = here[step];
    else if (typeof here === "object" && here !== null && !Array.isArray(here)) here = here[step];
    else return undefined;
  }
  return here;
}

/** The visible text, reasoning and finish of an OpenAI stream. */
export function openAIResult(events: SseEvent[]): { text: string; thinking: string; finish: Json | undefined } {
  const result: { text: string; thinking: string; finish: Json | undefined } = { text: "", thinking: "", finish: null };
  for (const chunk of payloads(events)) {
    result.text += dig(chunk, "choices", 0, "delta", "content") ?? "";
    result.thinking += dig(chunk, "choices", 0, "delta", "reasoning_content") ?? "";
    result.finish = dig(chunk, "choices", 0, "finish_reason") ?? result.finish;
  }
  return result;
}

export interface WireAnswer {
  head: string;
  /** HTTP chunks of the body, as they were framed. */
  chunks: Buffer[];
  error: NodeJS.ErrnoException | undefined;
}

/** One chat request over a bare socket; resolves when the connection is closed. */
export function chatOverSocket(simulator: Simulator, change: JsonObject = {}): Promise<WireAnswer> {
  const { hostname, port } = new URL(simulator.origin);
  const body = JSON.stringify({
    model: "kimi-for-coding",
    stream: true,
    messages: [{ role: "user", content: "hi" }],
    ...change,
  });
  const headers = { ...clientHeaders(simulator), host: "sim", connection: "close" };
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  return new Promise((resolve) => {
    const received: Buffer[] = [];
    let error: NodeJS.ErrnoException | undefined;
    const socket = connect(Number(port), hostname, () => {
      socket.write(
        `POST /coding/v1/chat/completions HTTP/1.1\r\n${lines.join("")}` +
          `content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
      );
    });
    socket.on("data", (piece) => received.push(piece));
    socket.on("error", (cause) => (error = cause));
    socket.on("close", () => resolve({ ...splitAnswer(Buffer.concat(received)), error }));
  });
}

function splitAnswer(bytes: Buffer): { head: string; chunks: Buffer[] } {
  const end = bytes.indexOf("\r\n\r\n");
  if (end < 0) return { head: bytes.toString("latin1"), chunks: [] };
  const chunks: Buffer[] = [];
  for (let at = end + 4; ;) {
    const line = bytes.indexOf("\r\n", at);
    const size = line < 0 ? 0 : Number.parseInt(bytes.toString("latin1", at, line), 16);
    if (size === 0 || Number.isNaN(size)) break;
    chunks.push(bytes.subarray(line + 2, line + 2 + size));
    at = line + 2 + size + 2;
  }
  return { head: bytes.toString("latin1", 0, end), chunks };
}
