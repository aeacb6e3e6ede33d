/**
 * The client for Node programs.
 */
import { environment, type Host, host } from "../environment.ts";
import { unwatchedPriority } from "../priority.ts";
import { KimiAddonError } from "../errors.ts";
import { API_ID, PROVIDER_ID } from "../ids.ts";
import type { Addon } from "../native/addon.ts";
import { awaitAnswer, logToFile, parseAnswer } from "../native/call.ts";
import { loadAddon } from "../native/loader.ts";
import { settingsVariable } from "../overrides.ts";
import type { LoopLimits } from "../loop-guard.ts";
import type { Profile, Quota, SettingsReport, UsageHistory } from "../queries.ts";
import {
  type DatasourceAnswer,
  type DatasourceRequest,
  type FetchAnswer,
  KimiServices,
  type SearchAnswer,
  type ServiceOptions,
} from "../services.ts";
import { Chat, type ChatLog } from "./chat.ts";
import { type Transcript, transcript } from "./conversation.ts";
import { KimiFiles } from "./files.ts";
import {
  checkCancellable,
  checkChat,
  checkClientOptions,
  checkDatasource,
  checkFetch,
  checkLogin,
  checkSearch,
  checkSettings,
  checkUsage,
} from "./input.ts";
import { login, type LoginOptions } from "./login.ts";
import { run, type RunOptions, type RunResult } from "./run.ts";
import type { ChatMessage } from "../messages.ts";
import type {
  Cancellable,
  ChatOptions,
  ChatRequest,
  HistoryOptions,
  KimiModel,
  KimiOptions,
  LogEvent,
  ServiceCallOptions,
  ThinkingLevel,
} from "./options.ts";

const DEFAULT_MODEL = "kimi-for-coding";

/** Number of chats that were logged. */
let chats = 0;

/** A configured client. It holds no connection and no timer, so it does not keep a process alive. */
export class Kimi {
  readonly #addon: Addon;
  readonly #options: KimiOptions;
  readonly #headers: Record<string, string | null>;
  readonly #host: Host;
  readonly #services: KimiServices;
  /** The request whose settings were examined last. */
  #examined = "";
  /** Invalid settings that were reported. */
  readonly #problems = new Set<string>();
  #modelList: { text: string; models: KimiModel[] } | undefined;
  /** Uploads images and videos, so that messages can refer to them. */
  readonly files: KimiFiles;

  /** Throws a `KimiAddonError` if the native addon cannot be loaded. */
  constructor(options: KimiOptions = {}) {
    checkClientOptions(options);
    const loaded = loadAddon(options.native);
    if (loaded.addon === undefined) throw new KimiAddonError({ code: "addon_missing", message: loaded.problem });
    this.#addon = loaded.addon;
    checkSettings(options.settings, this.#addon);
    if ((options.env?.["KIMI_CODE_DEBUG"] ?? process.env["KIMI_CODE_DEBUG"]) === "1") logToFile(this.#addon);
    this.#options = options;
    const headers = lowerCase(options.headers);
    this.#headers = headers;
    this.#host = { ...host(undefined), extraHeaders: headers };
    this.#services = new KimiServices(this.#addon, this.#host);
    this.files = new KimiFiles(this.#addon, () => ({ ...this.#caller(), headers }));
  }

  /**
   * Asks Kimi.
   *
   * `input` is a question, a list of messages (OpenAI's or Pi's form), or everything in one object. The request leaves at
   * once; iterate over the result for events, or await `final()` or `text()`.
   */
  chat(input: string | readonly ChatMessage[] | ChatRequest, options: ChatOptions = {}): Chat {
    checkChat(input, options);
    const request = { ...asRequest(input), ...options };
    const { messages, system, tools, thinking, signal, onPayload, onResponse, toolChoice, stop, ...rest } = request;
    const { apiKey } = this.#options;
    const format = request.responseFormat;
    const query = this.#queryRequest();
    const id = request.model ?? this.#options.model ?? DEFAULT_MODEL;
    const known = this.#knownModels(query).find((entry) => entry.id === id);
    const model = { id, ...(known ?? unknownModel()), api: API_ID, provider: PROVIDER_ID };
    const conversation = transcript(messages, model.id, system, tools);
    const onQuota = request.onQuota ?? this.#options.onQuota;
    const turnOptions = {
      ...rest,
      ...(onQuota === undefined ? {} : { onQuota }),
      repeatNotes: true,
      priority: request.priority ?? this.#options.priority ?? unwatchedPriority(),
      ...(stop === undefined ? {} : { stop: [stop].flat() }),
      ...(toolChoice === undefined
        ? {}
        : { toolChoice: typeof toolChoice === "string" ? toolChoice : { type: "tool", name: toolChoice.name } }),
      ...(apiKey === undefined ? {} : { apiKey }),
      ...(thinking === undefined ? {} : { reasoning: thinking }),
      headers: { ...this.#headers, ...lowerCase(request.headers) },
      env: this.#variables(),
      ...(signal === undefined ? {} : { signal }),
      ...(onPayload === undefined ? {} : { onPayload }),
      ...(onResponse === undefined ? {} : { onResponse }),
    };
    const log = this.#logger(model.id, conversation);
    const notes = [...this.#newSettingProblems(query), ...thinkingNote(known, thinking)];
    const schema = format?.type === "json_schema" ? format.schema : undefined;
    return new Chat({
      addon: this.#addon,
      host: this.#host,
      model,
      conversation,
      options: turnOptions,
      notes,
      schema,
      log,
    });
  }

  /**
   * Asks Kimi and runs the tools that it calls, until it answers without a call or `maxSteps` is reached.
   *
   * Calls of one answer run at the same time. What a tool throws is reported to the model. A model that repeats calls without news is
   * stopped by a `LoopGuard`. Rejects with a `KimiError`.
   */
  run(options: RunOptions): Promise<RunResult> {
    return run({ ask: (request) => this.chat(request), loopLimits: () => this.#loopLimits() }, options);
  }

  /** Asks the service for the models of this account. Later chats use the answer. */
  async models(options: Cancellable = {}): Promise<KimiModel[]> {
    checkCancellable(options);
    await awaitAnswer(this.#addon.refreshModels(this.#queryRequest()), options.signal);
    return structuredClone(this.#knownModels(this.#queryRequest()));
  }

  /** Returns what the plan was spent on, from the requests of this machine. */
  usage(options: HistoryOptions): Promise<UsageHistory>;
  /** Returns how much of each quota window is used. */
  usage(options?: Cancellable): Promise<Quota>;
  async usage(options: Cancellable & Partial<HistoryOptions> = {}): Promise<Quota | UsageHistory> {
    checkUsage(options);
    const { history, by, sessionId: session, signal } = options;
    if (history === undefined) return awaitAnswer(this.#addon.usage(this.#queryRequest(), 0), signal);
    const question = JSON.stringify({ history, by, session });
    return awaitAnswer(this.#addon.usageHistory(this.#queryRequest(), question), signal);
  }

  /** Returns the account and its plan. */
  async account(options: Cancellable = {}): Promise<Profile> {
    checkCancellable(options);
    return awaitAnswer(this.#addon.profile(this.#queryRequest()), options.signal);
  }

  /** Searches the web. Needs a login: beside a key, the stored login is used. */
  async search(query: string, options: ServiceCallOptions = {}): Promise<SearchAnswer> {
    checkSearch(query, options);
    return this.#services.search(query, this.#serviceOptions(options));
  }

  /** Returns a web page as Markdown, fetched by the service. Needs a login. */
  async fetch(url: string, options: ServiceCallOptions = {}): Promise<FetchAnswer> {
    checkFetch(url, options);
    return this.#services.fetch(url, this.#serviceOptions(options));
  }

  /** Calls an API of one of `datasources()`, or returns the source's documentation if the request names no `api`. Needs a login. */
  async datasource(request: DatasourceRequest, options: ServiceCallOptions = {}): Promise<DatasourceAnswer> {
    checkDatasource(request, options);
    return this.#services.datasource(request, this.#serviceOptions(options));
  }

  /** Lists the data sources and what they contain. */
  datasources(): [name: string, content: string][] {
    return this.#services.sources();
  }

  /** Signs this machine in. Chats without a key use the login, and so do Pi and the official client. */
  async login(options: LoginOptions): Promise<void> {
    checkLogin(options);
    return login(this.#addon, this.#account(), options);
  }

  /**
   * Removes the login of the official client on this machine, which `login` made or found. Returns whether there was one. A login in
   * Pi's own file stays: use Pi's `/logout`.
   */
  async logout(options: Cancellable = {}): Promise<boolean> {
    checkCancellable(options);
    const answer = this.#addon.logout(JSON.stringify(this.#account()));
    return (await awaitAnswer<{ signedOut: boolean }>(answer, options.signal)).signedOut;
  }

  /**
   * Returns whether there is a login, in Pi's `auth.json` or of the official client, that chats without a key can use. Reads files only,
   * so the service may still refuse it. Keys do not count.
   */
  hasLogin(): boolean {
    return this.#addon.hasLogin(JSON.stringify(this.#account()));
  }

  #loopLimits(): Required<LoopLimits> {
    return this.#settings(this.#queryRequest()).settings.loop;
  }

  #settings(request: string): SettingsReport {
    return parseAnswer<SettingsReport>(this.#addon.settings(request));
  }

  /** Returns the invalid variables and settings that this client has not reported yet. Reads files for another environment only. */
  #newSettingProblems(request: string): string[] {
    if (request === this.#examined) return [];
    this.#examined = request;
    const { problems } = this.#settings(request);
    const news = problems.filter((problem) => !this.#problems.has(problem));
    for (const problem of news) this.#problems.add(problem);
    return news.map((problem) => `Kimi settings: ${problem}`);
  }

  /** Returns the logger of one chat. */
  #logger(model: string, { messages, tools = [] }: Transcript): ((step: ChatLog) => void) | undefined {
    const { logger } = this.#options;
    if (logger === undefined) return undefined;
    const [id, start] = [(chats += 1), performance.now()];
    const tell = (event: LogEvent): void => {
      try {
        logger(event);
      } catch {
        // A logger does not decide about a chat.
      }
    };
    tell({ type: "chat_start", id, model, messages: messages.length, tools: tools.length });
    return (step) => {
      const durationMs = Math.round(performance.now() - start);
      if (step.type === "notice") return tell({ type: "chat_notice", id, notice: step.notice });
      if (step.type === "response") {
        const requestId = step.headers["x-request-id"] ?? step.headers["x-trace-id"];
        const known = requestId === undefined ? {} : { requestId };
        return tell({ type: "chat_response", id, status: step.status, ...known });
      }
      if (step.type === "end") {
        const { stopReason, usage } = step.message;
        return tell({ type: "chat_end", id, durationMs, stopReason, usage });
      }
      const { code, message, status, traceId } = step.error;
      const known = { ...(status === undefined ? {} : { status }), ...(traceId === undefined ? {} : { traceId }) };
      return tell({ type: "chat_error", id, durationMs, code, message, ...known });
    };
  }

  #variables(): Record<string, string> {
    const { baseUrl, settings, env } = this.#options;
    return { ...env, ...settingsVariable({ ...settings, ...(baseUrl === undefined ? {} : { baseUrl }) }) };
  }

  #serviceOptions(options: ServiceCallOptions): ServiceOptions {
    return { ...options, credential: this.#options.apiKey, env: this.#variables() };
  }

  /** Returns the models that the service last listed, else the built-in ones. Reads files only. */
  #knownModels(request: string): KimiModel[] {
    const text = this.#addon.models(request);
    // Every chat asks, and the answer is rarely another one.
    if (text !== this.#modelList?.text) {
      this.#modelList = { text, models: parseAnswer<{ models: KimiModel[] }>(text).models };
    }
    return this.#modelList.models;
  }

  #queryRequest(): string {
    return JSON.stringify(this.#caller());
  }

  #caller(): object {
    const { apiKey } = this.#options;
    return { ...this.#account(), ...(apiKey === undefined ? {} : { apiKey }) };
  }

  #account(): object {
    return { environment: environment(this.#variables()), host: this.#host };
  }
}

/** Returns the entry of a model that is not in the list; the service may know it. */
function unknownModel(): object {
  // Thinking stays on, because the service may refuse "off".
  return { reasoning: true, thinkingLevelMap: { off: null }, input: ["text", "image"] };
}

/** Says that thinking cannot be switched off. */
function thinkingNote(model: KimiModel | undefined, level: ThinkingLevel | undefined): string[] {
  if (level !== "off" || (model !== undefined && model.thinkingLevelMap["off"] !== null)) return [];
  const reason = model === undefined ? "Kimi does not list this model" : "Kimi always thinks with this model";
  return [`${reason}; the thinking level off was left out.`];
}

/** Returns headers by names in lower case, so that one of a request replaces that of the client however they are spelled. */
function lowerCase(headers: KimiOptions["headers"] = {}): Record<string, string | null> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
}

function asRequest(input: string | readonly ChatMessage[] | ChatRequest): ChatRequest {
  if (typeof input === "string") return { messages: [{ role: "user", content: input }] };
  return "messages" in input ? input : { messages: input };
}
