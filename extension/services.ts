/**
 * Kimi's own tools as plain functions over the addon: web search, page fetch, data sources.
 *
 * Both Pi's tools and Node programs go through here. A failure is a `KimiError` whose message
 * is shown to the user as it is.
 */
import { environment, ExtensionEnvironment, type Host } from "./environment.ts";
import { type Failure, kimiError } from "./errors.ts";
import type { Addon } from "./native/addon.ts";
import { withAbort } from "./native/call.ts";

export interface SearchResult {
  title: string;
  url: string;
  site: string;
  /** As the service gives it, usually `2026-05-01`; empty if unknown. */
  date: string;
  snippet: string;
}

interface ServiceAnswer {
  /** What the service says, as a model should read it; the beginning of it where there is a limit. */
  text: string;
  /** Whole length in lines and in bytes of UTF-8. */
  lines: number;
  bytes: number;
  /** Sentences that belong to the answer without being part of it. */
  notes: string[];
  /** Id the call was made under. */
  callId: string;
  /** Only with a limit: `text` is not all of it, and where all of it is. */
  truncated?: true;
  fullOutputPath?: string;
}

export interface SearchAnswer extends ServiceAnswer {
  /** All results; with a limit, the first ones in short. */
  results: SearchResult[];
  total: number;
}

export type FetchAnswer = ServiceAnswer;

export interface ReturnedFile {
  name: string;
  /** In bytes. */
  size: number;
  /** Where it was written, relative to the project folder. */
  path?: string;
  /** Why it was not written. */
  skipped?: string;
}

export interface DatasourceAnswer extends ServiceAnswer {
  files?: ReturnedFile[];
  /** What Moonshot's support asks for. */
  requestId?: string;
}

export interface DatasourceRequest {
  source: string;
  /** Without it, the documentation of the source is asked for. */
  api?: string | undefined;
  params?: unknown;
  /** Returned files are written below this folder only, and only where `params.file_path` asks for one. */
  project?: string;
}

export interface ServiceOptions {
  signal?: AbortSignal | undefined;
  /** Id of the model's tool call; a fresh one is made where there is none. */
  callId?: string;
  /** For the whole call, 180,000 ms if not given. */
  timeoutMs?: number;
  /** Access token and API base of a login; without them, the login of this machine counts. */
  credential?: string | undefined;
  baseUrl?: string | undefined;
  /** How much text is wanted; all of a longer one goes into a file in `directory`. */
  limit?: { bytes: number; lines: number; directory: string };
  /** Outranks `process.env`. */
  env?: Record<string, string | undefined>;
}

export class KimiServices {
  readonly #addon: Addon;
  readonly #host: Host;
  readonly #extensionEnvironment: ExtensionEnvironment;

  constructor(addon: Addon, host: Host, extensionEnvironment = new ExtensionEnvironment()) {
    this.#addon = addon;
    this.#host = host;
    this.#extensionEnvironment = extensionEnvironment;
  }

  /** Searches the web. */
  search(query: string, options: ServiceOptions = {}): Promise<SearchAnswer> {
    return this.#call<SearchAnswer>({ service: "search", query }, options);
  }

  /** A page as Markdown, fetched by the service; only http and https. */
  fetch(url: string, options: ServiceOptions = {}): Promise<FetchAnswer> {
    return this.#call<FetchAnswer>({ service: "fetch", url }, options);
  }

  /** Asks a data source, or for its documentation. */
  datasource(request: DatasourceRequest, options: ServiceOptions = {}): Promise<DatasourceAnswer> {
    return this.#call<DatasourceAnswer>({ service: "datasource", ...request }, options);
  }

  /** Names and contents of the data sources. */
  sources(): [name: string, content: string][] {
    return JSON.parse(this.#addon.dataSources()) as [string, string][];
  }

  async #call<T extends ServiceAnswer>(task: object, { signal, env, ...options }: ServiceOptions): Promise<T> {
    const request = JSON.stringify({
      environment: environment(this.#extensionEnvironment.variables(env)),
      host: this.#host,
      ...options,
      ...task,
    });
    const call = this.#addon.serviceCall(request);
    const cancel = (): void => call.cancel();
    const [details, text] = await withAbort(signal, cancel, () => call.result());
    const { ok, ...members } = JSON.parse(details) as { ok: boolean };
    if (ok) return { ...members, text } as unknown as T;
    const failure = members as Failure;
    throw kimiError(failure, failure.code === "cancelled" ? { cause: signal?.reason } : {});
  }
}
