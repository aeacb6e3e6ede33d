/**
 * Calls Kimi's own services: web search, page fetch, data sources. Pi's tools and Node programs share it.
 */
import { environment, ExtensionEnvironment, type Host } from "./environment.ts";
import type { Addon } from "./native/addon.ts";
import { parseAnswer, withAbort } from "./native/call.ts";

export interface SearchResult {
  title: string;
  url: string;
  site: string;
  /** As the service gives it, usually `2026-05-01`; empty if unknown. */
  date: string;
  snippet: string;
}

interface ServiceAnswer {
  /** The answer as a model should read it, cut where a limit was given. */
  text: string;
  /** Lines and bytes (UTF-8) of the uncut text. */
  lines: number;
  bytes: number;
  /** Remarks about the answer, for example where its uncut text is. */
  notes: string[];
  /** Id of the call. */
  callId: string;
  /** `text` was cut. */
  truncated?: true;
  /** File with the uncut text. */
  fullOutputPath?: string;
}

export interface SearchAnswer extends ServiceAnswer {
  /** The results; with a limit, the first ones with shortened snippets. */
  results: SearchResult[];
  /** Number of results before any limit. */
  total: number;
}

export type FetchAnswer = ServiceAnswer;

export interface ReturnedFile {
  name: string;
  /** In bytes. */
  size: number;
  /** Path of the written file, relative to the project folder. */
  path?: string;
  /** Reason why it was not written. */
  skipped?: string;
}

export interface DatasourceAnswer extends ServiceAnswer {
  files?: ReturnedFile[];
  /** Request id for Moonshot's support. */
  requestId?: string;
}

export interface DatasourceRequest {
  source: string;
  /** Without it, the answer documents the source. */
  api?: string | undefined;
  params?: unknown;
  /** The only folder that returned files are written to, and only if `params.file_path` names one. */
  project?: string;
}

/** What a tool says about itself; a subset of Pi's `ToolDefinition` in its newest form. */
export interface ToolTexts {
  name: string;
  label: string;
  description: string;
  promptSnippet: string;
  promptGuidelines: string[];
  /** JSON Schema of the arguments. */
  parameters: Record<string, unknown>;
  /** JSON Schema of the result as data. */
  outputSchema?: Record<string, unknown>;
  annotations: { readOnlyHint: boolean; destructiveHint: boolean; openWorldHint: boolean };
}

export interface ServiceOptions {
  signal?: AbortSignal | undefined;
  /** Id of the model's tool call. Default: a new one. */
  callId?: string;
  /** Limit for the whole call in milliseconds; 0 for none. Default: 180,000. */
  timeoutMs?: number;
  /** Access token of a login. Default, and beside a key: the login of this machine. */
  credential?: string | undefined;
  /** API base that the credential belongs to. */
  baseUrl?: string | undefined;
  /** `baseUrl` of Pi's models.json. */
  modelsJsonBaseUrl?: string | undefined;
  /** Longest text to return; the uncut text of a longer answer goes into a file in `directory`. */
  limit?: { bytes: number; lines: number; directory: string };
  /** Variables that outrank `process.env`. */
  env?: Record<string, string | undefined>;
}

/** The services. A failed call rejects with a `KimiError`. */
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

  /** Fetches a web page (http or https) on the service's side, as Markdown. */
  fetch(url: string, options: ServiceOptions = {}): Promise<FetchAnswer> {
    return this.#call<FetchAnswer>({ service: "fetch", url }, options);
  }

  /** Queries a data source, or returns its documentation. */
  datasource(request: DatasourceRequest, options: ServiceOptions = {}): Promise<DatasourceAnswer> {
    return this.#call<DatasourceAnswer>({ service: "datasource", ...request }, options);
  }

  /** Returns the names of the data sources and what they hold. */
  sources(): [name: string, content: string][] {
    return JSON.parse(this.#addon.dataSources()) as [string, string][];
  }

  /** Returns the texts of a tool. */
  tool(name: string): ToolTexts {
    const tools = JSON.parse(this.#addon.toolDefinitions()) as ToolTexts[];
    const found = tools.find((tool) => tool.name === name);
    if (found === undefined) throw new Error(`there is no tool ${name}`);
    return found;
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
    return { ...parseAnswer<T>(details, signal), text };
  }
}
