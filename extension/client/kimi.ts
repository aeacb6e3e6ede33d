/**
 * Kimi Code for any Node program: the addon without Pi around it.
 */
import { environment, host } from "../environment.ts";
import { API_ID, PROVIDER_ID } from "../models.ts";
import type { Addon } from "../native/addon.ts";
import { loadAddon } from "../native/loader.ts";
import { settingsVariable } from "../overrides.ts";
import type { Profile, Quota } from "../queries.ts";
import {
  type DatasourceAnswer,
  type DatasourceRequest,
  type FetchAnswer,
  KimiServices,
  type SearchAnswer,
  type ServiceOptions,
} from "../services.ts";
import { Chat } from "./chat.ts";
import { transcript } from "./conversation.ts";
import {
  answerValue,
  awaitAnswer,
  awaitServiceCall,
  type Cancellable,
  KimiAddonError,
  type ServiceCallOptions,
} from "./errors.ts";
import { KimiFiles } from "./files.ts";
import { login, type LoginOptions } from "./login.ts";
import type { ChatMessage } from "./messages.ts";
import type { ChatOptions, ChatRequest, KimiModel, KimiOptions } from "./options.ts";

const DEFAULT_MODEL = "kimi-for-coding";

/** One configured client. It holds no connection and no timer of its own, so a program that is done ends by itself. */
export class Kimi {
  readonly #addon: Addon;
  readonly #options: KimiOptions;
  readonly #services: KimiServices;
  /** Images and videos that messages refer to instead of containing them. */
  readonly files: KimiFiles;

  /** Throws a `KimiAddonError` where the native part cannot be loaded. */
  constructor(options: KimiOptions = {}) {
    const loaded = loadAddon();
    if (loaded.addon === undefined) throw new KimiAddonError({ code: "addon_missing", message: loaded.problem });
    this.#addon = loaded.addon;
    this.#options = options;
    this.#services = new KimiServices(this.#addon, host(undefined));
    const uploadContext = (): object => ({
      ...this.#account(),
      ...(options.apiKey === undefined ? {} : { apiKey: options.apiKey }),
      ...(options.headers === undefined ? {} : { headers: options.headers }),
    });
    this.files = new KimiFiles(this.#addon, uploadContext);
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
    await awaitAnswer<object>(this.#addon.refreshModels(this.#queryRequest()), options);
    return this.#knownModels();
  }

  /** How much of the plan's quota is used, window by window. */
  usage(options: Cancellable = {}): Promise<Quota> {
    return awaitAnswer<Quota>(this.#addon.usage(this.#queryRequest(), 0), options);
  }

  /** Whose account it is, and its plan. */
  account(options: Cancellable = {}): Promise<Profile> {
    return awaitAnswer<Profile>(this.#addon.profile(this.#queryRequest()), options);
  }

  /** Searches the web. Needs a login; a key is not enough. */
  search(query: string, options: ServiceCallOptions = {}): Promise<SearchAnswer> {
    return awaitServiceCall(this.#services.search(query, this.#serviceOptions(options)), options);
  }

  /** A web page as Markdown, fetched by the service. Needs a login. */
  fetch(url: string, options: ServiceCallOptions = {}): Promise<FetchAnswer> {
    return awaitServiceCall(this.#services.fetch(url, this.#serviceOptions(options)), options);
  }

  /** Asks one of `datasources()`, or for its documentation where the request names no `api`. Needs a login. */
  datasource(request: DatasourceRequest, options: ServiceCallOptions = {}): Promise<DatasourceAnswer> {
    return awaitServiceCall(this.#services.datasource(request, this.#serviceOptions(options)), options);
  }

  /** Names of the data sources, and what they hold. */
  datasources(): [name: string, content: string][] {
    return this.#services.sources();
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

  #serviceOptions(options: ServiceCallOptions): ServiceOptions {
    return { ...options, credential: this.#options.apiKey, env: this.#variables() };
  }

  /** The last list that the service sent, else the one we came with. Only looks at files. */
  #knownModels(): KimiModel[] {
    return answerValue<{ models: KimiModel[] }>(this.#addon.models(this.#queryRequest())).models;
  }

  #queryRequest(): string {
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
