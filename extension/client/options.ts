/**
 * Options of clients, chats and other calls, and the description of a model.
 */
import type { Priority } from "../priority.ts";
import type { SettingsOverrides } from "../overrides.ts";
import type { KimiErrorCode } from "../errors.ts";
import type { HistoryBy } from "../queries.ts";
import type { ChatNotice } from "./chat.ts";
import type { ChatMessage, OpenAiTool, Tool, Usage } from "../messages.ts";

/** Thinking level. A model without that level uses the nearest one it has. */
export type ThinkingLevel = "off" | "minimal" | "low" | "medium" | "high" | "xhigh" | "max";

/** `name` is that of a tool. */
export type ToolChoice = "auto" | "none" | "required" | { name: string };

export type ResponseFormat =
  | { type: "text" }
  | { type: "json_object" }
  /** `schema` is a JSON Schema. */
  | { type: "json_schema"; name?: string; schema: object };

/**
 * What happens when a window of the plan's quota is used up: `wait` until it opens and then continue, or `stop` with the error
 * `quota_exhausted`.
 */
export type OnQuota = "wait" | "stop";

/** What a client does, for a logger. Holds neither credentials nor content. */
export type LogEvent =
  | { type: "chat_start"; id: number; model: string; messages: number; tools: number }
  | { type: "chat_response"; id: number; status: number; requestId?: string }
  | ({ type: "chat_notice"; id: number } & { notice: ChatNotice })
  | { type: "chat_end"; id: number; durationMs: number; stopReason: string; usage: Usage }
  | {
      type: "chat_error";
      id: number;
      durationMs: number;
      code: KimiErrorCode;
      message: string;
      status?: number;
      /** Request id for Moonshot's support. */
      traceId?: string;
    };

export interface KimiOptions {
  /** Kimi Code API key. Default: a login in Pi's `auth.json`, else `KIMI_API_KEY`, else a login of the official client. */
  apiKey?: string;
  /** Base URL of the service, with or without a final `/v1`. Default: `KIMI_CODE_BASE_URL`, else the real service. */
  baseUrl?: string;
  /** Any part of a settings file (docs/settings.md). Takes precedence over files and environment, `KIMI_CODE_SETTINGS` included. */
  settings?: SettingsOverrides;
  /** Variables of docs/ENV.md. They take precedence over the process environment. */
  env?: Record<string, string>;
  /** Model of chats that name none. Default: `kimi-for-coding`. */
  model?: string;
  /** Chats at the end of a quota window. Default: `KIMI_CODE_QUOTA`, else the setting `quota.onExhausted`, else `stop`. */
  onQuota?: OnQuota;
  /** Priority of chats that name none. Default: `agent` in a program that Pi started, else `batch`. */
  priority?: Priority;
  /**
   * Headers of every request to the service, not of those to the login's host; `null` removes a default header. Those that authorize a
   * request or describe its content go with chats and uploads only; those of the connection are ignored.
   */
  headers?: Record<string, string | null>;
  /** Receives what chats do. What it throws is ignored. `KIMI_CODE_DEBUG=1` writes a file instead, see docs/troubleshooting.md. */
  logger?: ((event: LogEvent) => void) | undefined;
  /** Path of the native addon. Default: `KIMI_CODE_NATIVE`, else the platform's package; in a bundle, first `kimi-code.node` beside the program. */
  native?: string | undefined;
}

export interface ChatOptions {
  /** A model id, for example `k3`. */
  model?: string;
  /** Instructions before the first message. */
  system?: string;
  tools?: readonly (Tool | OpenAiTool)[];
  /**
   * Whether the model may, must not or must call a tool, or which one. While a model thinks, the service accepts `auto` and `none`
   * only: then `auto` is sent, and a `note` event says so.
   */
  toolChoice?: ToolChoice;
  /** Form of the answer; default: text. `chat.object()` reads and checks it. */
  responseFormat?: ResponseFormat;
  /** Texts at which the answer ends. */
  stop?: string | readonly string[];
  /** Default: the model's own default. Where a model always thinks, `off` is left out, and a `note` event says so. */
  thinking?: ThinkingLevel;
  /** Output limit in tokens, reasoning included. */
  maxTokens?: number;
  /** Sampling temperature. A value that the model does not accept is left out, and a `note` event says so. */
  temperature?: number;
  /** Nucleus sampling, as `temperature`. */
  topP?: number;
  /** Id of the conversation, sent as cache key. */
  sessionId?: string;
  /** Which requests go first where the plan allows no more at once, over all processes. */
  priority?: Priority;
  /** Headers of this request; `null` removes a default header. */
  headers?: Record<string, string | null>;
  /** Upper bound in milliseconds of every timeout but the one for connecting; 0 switches them off, 300,000 changes nothing. */
  timeoutMs?: number;
  /** Retries before any output has arrived; 0 for none. Default: the setting `retry.attempts`. */
  maxRetries?: number;
  /** Instead of the client's `onQuota`. Waiting is reported by `parked` and `resumed` events and ends at any time with `signal`. */
  onQuota?: OnQuota;
  /** Aborts the chat at any moment. */
  signal?: AbortSignal;
  /** Receives the request body before it is sent. A returned value replaces it. */
  onPayload?: (body: unknown) => unknown;
  /** Receives status and headers of each answer that begins, before its events. Requests that fail are not reported here. */
  onResponse?: (response: { status: number; headers: Record<string, string> }) => void | Promise<void>;
}

/** Options of calls that can be cancelled. */
export interface Cancellable {
  signal?: AbortSignal;
}

/** Asks what the plan was spent on. */
export interface HistoryOptions extends Cancellable {
  /** How far back: `24h`, `7d`, `2w`. 90 days are kept. */
  history: string;
  /** What a row is about. Default: `session`. */
  by?: HistoryBy;
  /** Id of the caller's conversation, whose row is labeled `this session` and which `advice` is about. */
  sessionId?: string;
}

export interface ServiceCallOptions extends Cancellable {
  /** Limit for the whole call in milliseconds; 0 for none. Default: 180,000. */
  timeoutMs?: number;
}

/** Messages and options in one object. */
export interface ChatRequest extends ChatOptions {
  messages: readonly ChatMessage[];
}

/** A model of the account. */
export interface KimiModel {
  id: string;
  name: string;
  reasoning: boolean;
  /** Levels of the model; `null` for one that it does not have. */
  thinkingLevelMap: Record<string, string | null>;
  input: string[];
  /** The model takes videos. */
  video?: boolean;
  /** @internal Flags for Pi. */
  compat?: object;
  /** List prices in USD per million tokens. A plan counts quota instead. */
  cost: { input: number; output: number; cacheRead: number; cacheWrite: number };
  /** Limit of prompt and answer together, in tokens. */
  contextWindow: number;
  /** Output limit in tokens. */
  maxTokens: number;
  /** Seconds for which the service keeps a prompt in its cache, where it says so. */
  cacheDuration?: number;
  /** @internal Lifetimes for Pi's cache warmer. */
  promptCache?: { short: number; long: number };
  /** Tokens of a prompt from which a hint about its cache is worthwhile. */
  minTokensToHint?: number;
}
