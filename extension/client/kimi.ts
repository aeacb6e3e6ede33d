/**
 * Kimi Code for any Node program: the addon without Pi around it.
 */
import { environment, host } from "../environment.ts";
import type { Profile, Quota } from "../facts.ts";
import { loadAddon } from "../loader.ts";
import type { Addon } from "../native.ts";
import { API_ID, PROVIDER_ID } from "../models.ts";
import { type SettingsOverrides, settingsVariable } from "../overrides.ts";
import { answered, type Cancellable, value } from "./asking.ts";
import { Chat } from "./chat.ts";
import { transcript } from "./conversation.ts";
import { KimiAddonError } from "./errors.ts";
import { login, type LoginOptions } from "./login.ts";
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

const DEFAULT_MODEL = "kimi-for-coding";

/** One configured client. It holds no connection and no timer of its own, so a program that is done ends by itself. */
export class Kimi {
  readonly #addon: Addon;
  readonly #options: KimiOptions;

  /** Throws a `KimiAddonError` where the native part cannot be loaded. */
  constructor(options: KimiOptions = {}) {
    const loaded = loadAddon();
    if (loaded.addon === undefined) throw new KimiAddonError({ code: "addon_missing", message: loaded.problem });
    this.#addon = loaded.addon;
    this.#options = options;
  }

  /**
   * Asks Kimi.
   *
   * `input` is a question, a list of messages (OpenAI's or Pi's form), or everything in one object. The request leaves at
   * once; iterate over the result for events, or await `final()` or `text()`.
   */
  chat(input: string | readonly ChatMessage[] | ChatRequest, options: ChatOptions = {}): Chat {
    const request = { ...asRequest(input), ...options };
    const { messages, system, tools, thinking, signal, onPayload, onResponse, ...rest } = request;
    const { apiKey, headers } = this.#options;
    const model = this.#model(request.model ?? this.#options.model ?? DEFAULT_MODEL);
    return new Chat(this.#addon, model, transcript(messages, model.id, system, tools), {
      ...rest,
      ...(apiKey === undefined ? {} : { apiKey }),
      ...(thinking === undefined ? {} : { reasoning: thinking }),
      headers: { ...headers, ...request.headers },
      env: this.#variables(),
      ...(signal === undefined ? {} : { signal }),
      ...(onPayload === undefined ? {} : { onPayload }),
      ...(onResponse === undefined ? {} : { onResponse }),
    });
  }

  /** The models of this account, asked of the service; chats know them from then on. */
  async models(options: Cancellable = {}): Promise<KimiModel[]> {
    await answered<object>(this.#addon.refreshModels(this.#question()), options);
    return this.#knownModels();
  }

  /** How much of the plan's quota is used, window by window. */
  usage(options: Cancellable = {}): Promise<Quota> {
    return answered<Quota>(this.#addon.usage(this.#question(), 0), options);
  }

  /** Whose account it is, and its plan. */
  account(options: Cancellable = {}): Promise<Profile> {
    return answered<Profile>(this.#addon.profile(this.#question()), options);
  }

  /** Signs this machine in. Chats without a key use the login from then on; so do Pi and the official client. */
  login(options: LoginOptions): Promise<void> {
    return login(this.#addon, this.#account(), options);
  }

  /** Whether chats without a key have a login to use. Looks at files only, so it may be one that the service no longer takes. */
  hasLogin(): boolean {
    return this.#addon.hasAmbientLogin(JSON.stringify(this.#account()));
  }

  #variables(): Record<string, string> {
    const { baseUrl, settings, env } = this.#options;
    return { ...env, ...settingsVariable({ ...settings, ...(baseUrl === undefined ? {} : { baseUrl }) }) };
  }

  /** The last list that the service sent, else the one we came with. Only looks at files. */
  #knownModels(): KimiModel[] {
    return value<{ models: KimiModel[] }>(this.#addon.models(this.#question())).models;
  }

  #question(): string {
    const { apiKey } = this.#options;
    return JSON.stringify({ ...this.#account(), ...(apiKey === undefined ? {} : { apiKey }) });
  }

  #account(): object {
    return { environment: environment(this.#variables()), host: host(undefined) };
  }

  /** The entry of a model; one that we do not know is asked for all the same, because the service may know it. */
  #model(id: string): { id: string; api: string; provider: string } {
    const known = this.#knownModels().find((entry) => entry.id === id);
    // Like the known models without a catalog: told to think, because the service may refuse "off".
    const entry = known ?? { id, reasoning: true, thinkingLevelMap: { off: null }, input: ["text", "image"] };
    return { ...entry, api: API_ID, provider: PROVIDER_ID };
  }
}

function asRequest(input: string | readonly ChatMessage[] | ChatRequest): ChatRequest {
  if (typeof input === "string") return { messages: [{ role: "user", content: input }] };
  return "messages" in input ? input : { messages: input };
}
