/**
 * What a client and a chat can be told, and what a model says about itself.
 */
import type { SettingsOverrides } from "../overrides.ts";
import type { ChatMessage, OpenAiTool, Tool } from "./messages.ts";

/** How hard to think. A model that lacks a level uses the nearest one it has. */
export type ThinkingLevel = "off" | "minimal" | "low" | "medium" | "high" | "xhigh" | "max";

export interface KimiOptions {
  /** Kimi Code key. Without it `KIMI_API_KEY` counts, then the login of this machine. */
  apiKey?: string;
  /** Root of the service, with or without a final `/v1`. Without it `KIMI_CODE_BASE_URL` counts. */
  baseUrl?: string;
  /** Any part of a settings file (docs/settings.md); outranks files and environment. */
  settings?: SettingsOverrides;
  /** Variables of docs/ENV.md that outrank the process environment. */
  env?: Record<string, string>;
  /** Model of every chat that names none. Default `kimi-for-coding`. */
  model?: string;
  /** Headers of every request; `null` removes one of ours. */
  headers?: Record<string, string | null>;
}

export interface ChatOptions {
  /** A model id, for example `k3`. */
  model?: string;
  /** Instructions before the first message. */
  system?: string;
  tools?: readonly (Tool | OpenAiTool)[];
  /** `none` forbids tool calls; everything else the service treats as `auto` while the model thinks. */
  toolChoice?: "auto" | "none";
  /** Default: as the model does by itself. */
  thinking?: ThinkingLevel;
  /** Longest answer in tokens, reasoning included. */
  maxTokens?: number;
  temperature?: number;
  /** Chats with the same id share the service's prompt cache. */
  sessionId?: string;
  /** Headers of this request; `null` removes one of ours. */
  headers?: Record<string, string | null>;
  /** Longest silence in milliseconds; 0 for no limit. */
  timeoutMs?: number;
  /** Requests after a failed one, as long as nothing visible has arrived; 0 for none. Default: the setting `retry.attempts`. */
  maxRetries?: number;
  /** Aborts the chat at any moment. */
  signal?: AbortSignal;
  /** Sees the request body before it leaves; what it returns is sent instead. */
  onPayload?: (body: unknown) => unknown;
  /** Sees status and headers of the response before any event. */
  onResponse?: (response: { status: number; headers: Record<string, string> }) => void | Promise<void>;
}

/** A chat in one object. */
export interface ChatRequest extends ChatOptions {
  messages: readonly ChatMessage[];
}

/** A model of the account. */
export interface KimiModel {
  id: string;
  name: string;
  reasoning: boolean;
  /** Levels that make a difference; null stands for one that is not offered. */
  thinkingLevelMap: Record<string, string | null>;
  input: string[];
  /** List prices in USD per million tokens; the plan itself counts quota. */
  cost: { input: number; output: number; cacheRead: number; cacheWrite: number };
  /** Tokens of prompt and answer together. */
  contextWindow: number;
  /** Longest answer in tokens. */
  maxTokens: number;
}
