/**
 * Queries the addon: settings, models, quota, account.
 *
 * Inside Pi the caller passes the credential that Pi resolved, so that Pi refreshes its own login.
 */
import { ExtensionEnvironment, type Host } from "./environment.ts";
import type { PromptCacheReport } from "./messages.ts";
import type { Addon } from "./native/addon.ts";
import { parseAnswer, requestText } from "./native/call.ts";

export interface Settings {
  protocol: "openai" | "anthropic";
  region: "auto" | "mainland-cn" | "global";
  identity: "honest" | "kimi-code";
  baseUrl?: string | null;
  oauthHost?: string | null;
  uploads: {
    thresholdBytes: number;
    totalBytes: number;
    inlineLimitBytes: number;
    timeoutMs: number | null;
    videoMaxBytes: number;
  };
  tools: Record<string, { enabled: boolean; default_collapsed: boolean; exposure: "direct" | "deferred" }>;
  statusLine: boolean;
  model: object;
  models: Record<string, object>;
  limits: Record<string, number | null>;
  retry: { attempts: number; maxDelayMs: number; maxTotalMs: number | null };
  quota: { onExhausted: string | null; maxWaitMs: number; reserve: Record<string, number> };
  concurrency: { max: number | null; reserve: number };
  network: { preconnect: boolean };
  loop: { warn: number; block: number; stop: number };
  cache: { noticeTokens: number; keeper: "off" | "pi" };
}

export interface SettingsReport {
  settings: Settings;
  /** Path → value as text, in the form in which users type it. */
  texts: Record<string, string>;
  /** Invalid values that were ignored, each with file, path and what was expected. */
  problems: string[];
  /** Path → source of a value that is not the default. */
  origins: Record<string, string>;
  homeFile: string | null;
  project: { file: string; trusted: boolean } | null;
  apiRoot: string | null;
}

/** Describes a setting for the screen. */
export interface SettingKey {
  /** `*` in it stands for any name: of a model, of a quota window. */
  path: string;
  form: "switch" | "choice" | "size" | "number" | "text";
  choices: string[] | null;
  homeOnly: boolean;
  expected: string;
  help: string;
}

export interface QuotaWindow {
  id: string;
  /** `5-hour window`. */
  label: string;
  /** `5h`, `wk`. */
  short: string;
  /** 0 to 1, null if there is no limit. */
  usedRatio: number | null;
  used: string | null;
  limit: string | null;
  /** Milliseconds since 1970. */
  resetsAt: number | null;
  parts: { label: string; usedRatio: number }[];
}

export interface Money {
  currency: string;
  /** Whole cents, as text because they may exceed 2^53. */
  cents: string;
  text: string;
}

export interface Wallet {
  balance: Money;
  usedThisMonth: Money | null;
  monthlyLimit: Money | null;
  usedRatio: number | null;
}

/** How full a quota window is. */
export type QuotaLevel = "ok" | "warning" | "alarm";

/** The words that show a quota. */
export interface QuotaDisplay {
  /** Parts of the status line: `5h 62%`, `wk 18%`, `resets 14:32`. */
  status: { text: string; level: QuotaLevel }[];
  /** The quota is old, or the last request for it failed. */
  stale: boolean;
  /** When it was fetched, `14:32`. */
  asOf: string | null;
  /** One row for each window of the usage, in the same order. */
  windows: {
    label: string;
    share: string | null;
    level: QuotaLevel;
    resets: string | null;
    remaining: string | null;
    parts: string[];
  }[];
}

/** What the rows of a history are about. */
export type HistoryBy = "session" | "project" | "model" | "day";

/** Percent of each window, `5h` and `7d`; null where too little is known. */
export type WindowShares = Record<string, number | null>;

/** One row of a history. */
export interface HistoryRow {
  /** Hash of session or project, model id, or day. */
  key: string;
  label: string;
  requests: number;
  /** Prompt tokens that the service had to read, and those from its cache. */
  uncached: number;
  cached: number;
  /** Answer tokens, reasoning included. */
  output: number;
  reasoning: number;
  percent: WindowShares;
}

/** Percent of a window per token. */
export interface TokenWeight {
  uncached: number;
  cached: number;
  output: number;
}

/** What the plan was spent on. Times are milliseconds since 1970. */
export interface UsageHistory {
  from: number;
  to: number;
  by: HistoryBy;
  rows: HistoryRow[];
  /** Percent that other programs spent. */
  elsewhere: WindowShares;
  weights: Record<string, Record<string, TokenWeight> | null>;
  /** When a window will be used up; null if it opens before that, or too little is known. */
  forecast: Record<string, { fullAt: number | null }>;
  /** Whether compacting the caller's session would save quota. */
  advice: CompactionAdvice | null;
}

/** When `/compact` has saved as much as it costs. Percents are of `window`. */
export interface CompactionAdvice {
  /** Requests until then. */
  requests: number;
  window: string;
  /** Prompt tokens of the session's last request. */
  contextTokens: number;
  /** What reading the context costs with each request, and what compacting costs once. */
  perRequest: number;
  once: number;
  /** All of this in a sentence. */
  text: string;
}

/** Whether requests wait for a quota window. */
export interface ParkState {
  state: "open" | "parked";
  window: string | null;
  /** Milliseconds since 1970. */
  resetsAt: number | null;
  since: number | null;
  /** Requests that wait. */
  sessions: number;
  /** All of this in a sentence. */
  text: string;
}

/** Requests of this account at the same time. */
export interface Parallel {
  /** Requests that the plan allows; null if unknown. */
  limit: number | null;
  inUse: number;
  waiting: number;
}

export interface Quota {
  usage: {
    windows: QuotaWindow[];
    wallet: Wallet | null;
    plan: string | null;
    /** Requests that may run at the same time. */
    parallelLimit: number | null;
  } | null;
  display: QuotaDisplay;
  parallel: Parallel;
  /** Requests of this process that are under way. */
  underWayHere: number;
  /** Milliseconds since 1970; null if there is no answer yet. */
  fetchedAt: number | null;
  /** Why the last update failed. */
  problem: string | null;
}

export interface Profile {
  userId: string;
  name: string;
  plan: string | null;
  level: number | null;
  email: string | null;
  region: string | null;
}

/** A prompt whose cache has expired. */
export interface ExpiredCache {
  /** When it was sent, in milliseconds since 1970. */
  at: number;
  /** How long ago it expired, in milliseconds. */
  sinceMs: number;
  /** Its tokens. */
  tokens: number;
  /** The window of the plan that reading them takes most of, and how much, where that is known. */
  window?: string;
  percent?: number;
}

export interface Listing<M> {
  models: M[];
  /** Milliseconds since 1970; 0 for the built-in list. */
  fetchedAt: number;
  baseUrl: string;
}

/** The credential that Pi resolved. Without one, the addon looks for a credential itself. */
export interface Credential {
  apiKey?: string;
  /** API base of the login that the credential belongs to. */
  baseUrl?: string;
  /** `baseUrl` of Pi's models.json. */
  modelsJsonBaseUrl?: string;
}

/** The queries of one extension or client. A failed query throws a `KimiError`. */
export class AddonQueries {
  readonly #addon: Addon;
  readonly #host: Host;
  readonly #extensionEnvironment: ExtensionEnvironment;
  readonly #listeners = new Set<(settings: Settings) => void>();

  constructor(addon: Addon, host: Host, extensionEnvironment = new ExtensionEnvironment()) {
    this.#addon = addon;
    this.#host = host;
    this.#extensionEnvironment = extensionEnvironment;
  }

  settings(): SettingsReport {
    return parseAnswer(this.#addon.settings(this.#request()));
  }

  settingKeys(): SettingKey[] {
    return JSON.parse(this.#addon.settingKeys()) as SettingKey[];
  }

  /** Returns the path under which a setting counts: a quota window may be written in several ways. Throws if there is none. */
  settingPath(path: string): string {
    return parseAnswer<{ path: string }>(this.#addon.settingPath(path)).path;
  }

  /** Sets a value in a settings file as the user typed it, calls the listeners, and returns the new report. */
  change(scope: "home" | "project", path: string, text: string): SettingsReport {
    parseAnswer(this.#addon.changeSetting(this.#request(), scope, path, text));
    return this.announceSettings();
  }

  /** Reads the settings again, calls the listeners, and returns the report. */
  announceSettings(): SettingsReport {
    const report = this.settings();
    for (const listener of this.#listeners) listener(report.settings);
    return report;
  }

  /** Calls `listener` after each `change` with the new settings. Returns a function that stops it. */
  onChange(listener: (settings: Settings) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Returns the stored list of models, or the built-in one. Does not use the network. */
  models<M>(credential: Credential = {}): Listing<M> {
    return parseAnswer(this.#addon.models(this.#request(credential)));
  }

  /** Asks the service for its models where no list is stored, and waits at most `maxWaitMs` for it. */
  async ensureModels(credential: Credential, maxWaitMs: number): Promise<void> {
    parseAnswer(await this.#addon.ensureModels(this.#request(credential), maxWaitMs));
  }

  /** Asks the service for its models and stores them for `models`. */
  async refreshModels(credential: Credential = {}): Promise<void> {
    parseAnswer(await this.#addon.refreshModels(this.#request(credential)));
  }

  /** Returns the quota, at most `maxAgeMs` old; the cache is shared with other processes. 0 always asks the service. */
  async quota(credential: Credential = {}, maxAgeMs = 0): Promise<Quota> {
    return parseAnswer(await this.#addon.usage(this.#request(credential), maxAgeMs));
  }

  /** Returns what the last days were spent on, by session, project, model or day. */
  async history(credential: Credential, history: string, by: HistoryBy, session = ""): Promise<UsageHistory> {
    const question = JSON.stringify({ history, by, session });
    return parseAnswer(await this.#addon.usageHistory(this.#request(credential), question));
  }

  /** Returns whether requests wait for a quota window. */
  async parked(credential: Credential = {}): Promise<ParkState> {
    return parseAnswer(await this.#addon.quotaState(this.#request(credential)));
  }

  /** Applies a choice to the window that requests wait for. */
  async chooseQuota(credential: Credential, choice: "wait" | "stop" | "resume"): Promise<ParkState> {
    return parseAnswer(await this.#addon.chooseQuota(this.#request(credential), choice));
  }

  /** Opens a connection for the next request, unless the settings forbid it. */
  async preconnect(credential: Credential = {}): Promise<void> {
    parseAnswer(await this.#addon.preconnect(this.#request(credential)));
  }

  /** Returns the last requests of a session and its newest prompt. */
  async promptCache(session: string, last?: number): Promise<PromptCacheReport> {
    return parseAnswer(await this.#addon.promptCache(this.#request(), JSON.stringify({ session, last })));
  }

  /** Returns what the next request of a session reads again because its cache has expired. */
  async expiredCache(credential: Credential, session: string, model: string): Promise<ExpiredCache | null> {
    const question = JSON.stringify({ session, model });
    const answer = await this.#addon.expiredCache(this.#request(credential), question);
    return parseAnswer<{ expired: ExpiredCache | null }>(answer).expired;
  }

  async profile(credential: Credential = {}): Promise<Profile> {
    return parseAnswer(await this.#addon.profile(this.#request(credential)));
  }

  #request(credential: Credential = {}): string {
    return requestText({ host: this.#host, extensionEnvironment: this.#extensionEnvironment }, credential);
  }
}
