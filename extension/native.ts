/**
 * The addon: what it offers, described for JavaScript. How it is found: loader.ts.
 */

/** Codes of the ops that a turn hands over; `[code, index, text, extra]`. `index` is a position in the message's content. */
export const OpCode = {
  /** `text`: the finished body as JSON. Answer with `sendBody`. */
  Body: 0,
  /** `text`: `{status, headers}`; arrives before any content. */
  Response: 1,
  /** `text`: `{kind, message, …}`, progress for a person. */
  Notice: 2,
  /** `text`: JSON of one event of the service. */
  Raw: 3,
  TextStart: 10,
  /** `text`: `{signature, redacted?}`. */
  ThinkingStart: 11,
  /** `text`: `{id, name}`, both final. */
  ToolStart: 12,
  TextDelta: 20,
  ThinkingDelta: 21,
  /** `text`: raw argument text; `extra`: what it changes in the value, see arguments.ts. */
  ToolDelta: 22,
  TextEnd: 30,
  ThinkingEnd: 31,
  /** `text`: empty if the argument text is valid JSON, else `{text}` (repaired) or `{error}`. */
  ToolEnd: 32,
  /** `text`: members to merge into the block. */
  Amend: 40,
  /** `text`: `{reason, usage, responseId?, responseModel?, rawStopReason?}`. Terminal. */
  Done: 100,
  /** `text`: `{code, message, usage?, status?, retryAfterMs?, traceId?}`. Terminal. */
  Failed: 101,
} as const;

export type Op = [code: number, index: number, text: string, extra?: string | null];

export interface TurnHandle {
  /** Aborts; the terminal op still arrives. Safe at any time. */
  cancel(): void;
  /** Answers a Body op with the JSON text to send. */
  sendBody(body: string): void;
}

/** What the addon exports. */
export interface Addon {
  version(): string;
  /** Writes diagnostics to this file from now on; credentials are redacted. */
  logTo(file: string): void;
  /** API root for this environment (JSON); throws with a readable message if it is unusable. */
  apiRoot(environment: string): string;
  /** JSON list of the models known without a network. */
  fallbackModels(): string;
  /** Starts a turn. Never throws for a failed request: the last op says what happened. */
  startTurn(request: string, context: string, media: string[], onOps: (ops: Op[]) => void): TurnHandle;
}

/** `addon` or, in its place, why there is none. */
export type Loaded = { addon: Addon } | { addon?: undefined; problem: string };

export { loadAddon, platformName } from "./loader.ts";
