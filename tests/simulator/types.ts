// The types of the simulator: what a test may request (scenarios) and what it can read (records). Everything in a scenario is
// plain JSON, so that it can cross the admin endpoint.

import type { Json, JsonObject } from "./json.ts";

export type Dialect = "openai" | "anthropic";

/** Names of the endpoints in the request log and in `intercept`. */
export type EndpointName = "chat" | "messages" | "models" | "files" | "unknown" | (string & {});

/** Token counts of an answer. Missing ones are computed from the request and the rendered text. */
export interface UsageSpec {
  /** All prompt tokens, including cached ones. */
  prompt?: number;
  completion?: number;
  cached?: number;
  reasoning?: number;
  /** Sent verbatim as the usage object instead of a computed one. */
  raw?: JsonObject;
}

export interface ToolCallSpec {
  /** Default: `<name>:<index>`, the form Moonshot models produce (docs/protocol.md#tool-call-ids). */
  id?: string;
  name: string;
  /** A string is sent unchanged, valid JSON or not; an object is serialized. */
  arguments: string | JsonObject;
  index?: number;
}

export interface RepeatSpec {
  kind: "text" | "thinking" | "arguments";
  count: number;
  text: string;
  /** Deltas per second; without it as fast as the socket takes them. */
  perSecond?: number;
  /** Tool name for `arguments`, default `write`. */
  name?: string;
}

export type Step =
  | { text: string; size?: number; pauseMs?: number }
  | { thinking: string; size?: number; pauseMs?: number }
  | { toolCall: ToolCallSpec; size?: number; pauseMs?: number }
  | { toolCalls: ToolCallSpec[]; interleave: true; size?: number; pauseMs?: number }
  | {
      finish: "stop" | "tool_calls" | "length" | "content_filter" | (string & {});
      usage?: UsageSpec | false;
      usagePlace?: UsagePlace;
    }
  | { pauseMs: number }
  | { comment: string }
  | { raw: string }
  | { chunk: JsonObject }
  | { errorFrame: { message: string; type?: string; code?: string } }
  /** `end` closes the body properly, `close` ends the connection inside it, `reset` sends a TCP reset. */
  | { cut: "end" | "close" | "reset" }
  | { repeat: RepeatSpec };

/** `choice` is where the service puts it (docs/protocol.md#chat-usage); the others are seen on other gateways. */
export type UsagePlace = "choice" | "top" | "chunk" | "none";

export interface HttpAnswer {
  status: number;
  headers?: Record<string, string>;
  body?: string | JsonObject;
  delayMs?: number;
}

export interface Framing {
  /** Split the bytes every N bytes; default one write per event. */
  chunkBytes?: number | "random";
  lineEnding?: "\n" | "\r\n" | "\r";
  noSpaceAfterData?: boolean;
  omitDone?: boolean;
  /** `true` leaves out the last blank line, `"newline"` also the newline before it. */
  omitFinalBlankLine?: boolean | "newline";
  bom?: boolean;
}

export interface Scenario extends Framing {
  name?: string;
  /** An HTTP-level answer instead of a stream. */
  http?: HttpAnswer;
  /** Additional headers of the stream's response head. */
  headers?: Record<string, string>;
  headersDelayMs?: number;
  /** `connect`: not one byte of answer; `headers`: a head that never ends; `body`: a body that never ends. */
  hang?: "connect" | "headers" | "body";
  steps?: Step[];
  /** Echoed as the model that ran. */
  model?: string;
}

/** How an answer ended. `cut` and `reset` were requested by the scenario, `aborted` means the client left. */
export type Ending = "complete" | "cut" | "reset" | "aborted";

export interface RequestRecord {
  id: number;
  /** Milliseconds since the epoch at which the request head arrived. */
  time: number;
  /** Ordinal of the TCP connection: equal numbers mean a reused connection. */
  connection: number;
  method: string;
  path: string;
  /** With the question mark, or empty. */
  query: string;
  endpoint: EndpointName;
  httpVersion: string;
  /** Names as spelled on the wire, in order. */
  headerOrder: string[];
  /** Lower-case names. */
  headers: Record<string, string>;
  rawBody: Buffer;
  /** `undefined` if there is no body or it is not JSON. */
  json: Json | undefined;
  auth: "bearer" | "x-api-key" | "both" | "none";
  traceId: string;
  /** Model that ran, after routing of unknown ids. */
  model: string | undefined;
  usage: { prompt: number; cached: number; completion: number } | undefined;
  /** `undefined` until the response head is written. */
  status: number | undefined;
  /** Message of a refusal by the simulated service. */
  error: string | undefined;
  scenario: string | undefined;
  /** The client closed the connection before the answer was complete. */
  aborted: boolean;
  /** `undefined` while the answer is under way. */
  ended: Ending | undefined;
  /** When, in Unix milliseconds. */
  endedAt: number | undefined;
  sentEvents: number;
  sentBytes: number;
}

/** One overriding answer of an endpoint, taken before authentication. Without a status it only delays. */
export type Interception = Partial<HttpAnswer> & { hang?: "connect" | "headers" };

/** Settings that may change while the simulator runs. */
export interface Settings {
  /** Refuse bodies that the service refuses. Default true. */
  validation: boolean;
  /** `agent` refuses unknown clients on the generation endpoints with 403. Default `agent`. */
  identityGate: "off" | "agent";
  /** `strict` applies every rule that a report shows the service to enforce. Default `strict`. */
  toolSchema: "strict" | "off";
  /** 15 000 until June 2026, 120 000 since (docs/protocol.md#tool-schema-size). Default 15 000. */
  toolSchemaLimitBytes: number;
  /** `known` refuses `ms://` ids that the account did not upload. Default `known`. */
  fileReferences: "known" | "any";
  /** Above it 413 without reading on. */
  maxBodyBytes: number;
  /** Above so many requests of an account at once, further ones are refused (docs/protocol.md#concurrency). 0, the default: never. */
  parallelLimit: number;
  /** How long a prompt stays in the prefix cache (docs/protocol.md#prompt-cache). */
  promptCacheTtlMs: number;
}

export interface SimulatorOptions extends Partial<Settings> {
  /** Default 0: any free port. */
  port?: number;
  /** A loopback address, default 127.0.0.1. */
  host?: string;
  apiKey?: string;
}
