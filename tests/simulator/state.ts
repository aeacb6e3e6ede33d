// Everything the simulated service keeps between two requests.

import { Catalog } from "./catalog.ts";
import { FileStore } from "./files.ts";
import { RequestLog } from "./log.ts";
import { OAuthState } from "./oauth-state.ts";
import { Parallel } from "./parallel.ts";
import { PromptCache } from "./prompt-cache.ts";
import { Plan } from "./usage.ts";
import type { EndpointName, Interception, RequestRecord, Scenario, Settings, SimulatorOptions } from "./types.ts";

const DEFAULT_KEY = "sk-kimi-sim";

function defaultSettings(): Settings {
  return {
    validation: true,
    identityGate: "agent",
    toolSchema: "strict",
    toolSchemaLimitBytes: 15_000,
    fileReferences: "known",
    maxBodyBytes: 100 * 1024 * 1024,
    parallelLimit: 0,
    promptCacheTtlMs: 600_000,
  };
}

export class State {
  readonly log = new RequestLog();
  readonly catalog = new Catalog();
  readonly files = new FileStore();
  readonly oauth = new OAuthState();
  readonly plan = new Plan();
  readonly parallel = new Parallel();
  readonly settings: Settings;
  readonly promptCache: PromptCache;
  readonly apiKey: string;
  /** Tokens that are accepted as bearer or x-api-key. */
  readonly credentials = new Set<string>();
  readonly queue: Scenario[] = [];
  defaultScenario: Scenario | undefined;
  readonly #interceptions = new Map<EndpointName, Interception[]>();
  readonly #initial: Settings;

  constructor(options: SimulatorOptions) {
    const { port: _port, host: _host, apiKey, ...settings } = options;
    this.#initial = { ...defaultSettings(), ...settings };
    this.settings = { ...this.#initial };
    this.apiKey = apiKey ?? DEFAULT_KEY;
    this.credentials.add(this.apiKey);
    this.promptCache = new PromptCache(() => this.settings.promptCacheTtlMs);
  }

  intercept(endpoint: EndpointName, answers: Interception[]): void {
    this.#interceptions.set(endpoint, [...(this.#interceptions.get(endpoint) ?? []), ...answers]);
  }

  accepts(token: string): boolean {
    return this.credentials.has(token) || this.oauth.accepts(token);
  }

  takeInterception(record: RequestRecord): Interception | undefined {
    return this.log.isPast(record) ? undefined : this.#interceptions.get(record.endpoint)?.shift();
  }

  takeScenario(record: RequestRecord): Scenario | undefined {
    return this.log.isPast(record) ? undefined : this.queue.shift();
  }

  reset(): void {
    this.log.clear();
    this.catalog.reset();
    this.files.clear();
    this.plan.reset();
    this.oauth.reset();
    this.promptCache.clear();
    this.credentials.clear();
    this.credentials.add(this.apiKey);
    this.queue.length = 0;
    this.defaultScenario = undefined;
    this.#interceptions.clear();
    Object.assign(this.settings, this.#initial);
  }
}
