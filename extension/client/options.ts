/**
 * Options of clients, chats and other calls, and the description of a model.
 */
import type { SettingsOverrides } from "../overrides.ts";
import type { ChatMessage, OpenAiTool, Tool } from "../messages.ts";

/** Thinking level. A model without that level uses the nearest one it has. */
export type ThinkingLevel = "off" | "minimal" | "low" | "medium" | "high" | "xhigh" | "max";

export interface KimiOptions {
  /** Kimi Code API key. Default: `KIMI_API_KEY`, else the login of this machine. */
  apiKey?: string;
  /** Base URL of the service, with or without a final `/v1`. Default: `KIMI_CODE_BASE_URL`, else the real service. */
  baseUrl?: string;
  /** Any part of a settings file (docs/settings.md). Takes precedence over files and environment. */
  settings?: SettingsOverrides;
  /** Variables of docs/ENV.md. They take precedence over the process environment. */
  env?: Record<string, string>;
  /** Model of chats that name none. Default: `kimi-for-coding`. */
  model?: string;
  /** Headers of every request; `null` removes a default header. */
  headers?: Record<string, string | null>;
  /** Path of the native addon. Default: `KIMI_CODE_NATIVE`, else the platform's package, else `kimi-code.node` beside the program. */
  native?: string | undefined;
}

export interface ChatOptions {
  /** A model id, for example `k3`. */
  model?: string;
  /** Instructions before the first message. */
  system?: string;
  tools?: readonly (Tool | OpenAiTool)[];
  /** `none` forbids tool calls; everything else the service treats as `auto` while the model thinks. */
  toolChoice?: "auto" | "none";
  /** Default: the model's own default. */
  thinking?: ThinkingLevel;
  /** Output limit in tokens, reasoning included. */
  maxTokens?: number;
  temperature?: number;
  /** Id of the conversation, sent as cache key. */
  sessionId?: string;
  /** Headers of this request; `null` removes a default header. */
  headers?: Record<string, string | null>;
  /** Idle timeout in milliseconds; 0 for none. */
  timeoutMs?: number;
  /** Retries before any output has arrived; 0 for none. Default: the setting `retry.attempts`. */
  maxRetries?: number;
  /** Aborts the chat at any moment. */
  signal?: AbortSignal;
  /** Receives the request body before it is sent. A returned value replaces it. */
  onPayload?: (body: unknown) => unknown;
  /** Receives status and headers of the response, before any event. */
  onResponse?: (response: { status: number; headers: Record<string, string> }) => void | Promise<void>;
}

/** Options of calls that can be cancelled. */
export interface Cancellable {
  signal?: AbortSignal;
}

export interface ServiceCallOptions extends Cancellable {
  /** Limit for the whole call in milliseconds. Default: 180,000. */
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
}
