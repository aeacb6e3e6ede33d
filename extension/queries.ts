/**
 * What the addon knows beside answers, typed: settings, models, quota, account.
 *
 * Usable without Pi; inside Pi the credential is the one that Pi resolved, so that a login Pi refreshes is refreshed by Pi.
 */
import { ExtensionEnvironment, type Host } from "./environment.ts";
import type { Addon } from "./native/addon.ts";
import { parseAnswer, requestText } from "./native/call.ts";

export interface Settings {
  protocol: "openai" | "anthropic";
  region: "auto" | "mainland-cn" | "global";
  identity: "honest" | "kimi-code";
  baseUrl?: string | null;
  oauthHost?: string | null;
  uploads: { thresholdBytes: number; totalBytes: number };
  tools: Record<string, { enabled: boolean; default_collapsed: boolean }>;
  statusLine: boolean;
  model: object;
  models: Record<string, object>;
  limits: Record<string, number | null>;
  retry: { attempts: number; maxDelayMs: number };
}

export interface SettingsReport {
  settings: Settings;
  /** What was left out, each with file, path and expectation. */
  problems: string[];
  /** Path → where a value that is not the default comes from. */
  origins: Record<string, string>;
  homeFile: string | null;
  project: { file: string; trusted: boolean } | null;
  apiRoot: string | null;
}

/** A setting as the screen needs it. */
export interface SettingKey {
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
  /** 1 is all of it; null where there is no limit. */
  usedRatio: number | null;
  used: string | null;
  limit: string | null;
  /** Milliseconds since 1970. */
  resetsAt: number | null;
  parts: { label: string; usedRatio: number }[];
}

export interface Money {
  currency: string;
  /** Whole cents as text: may be beyond 2^53. */
  cents: string;
  text: string;
}

export interface Wallet {
  balance: Money;
  usedThisMonth: Money | null;
  monthlyLimit: Money | null;
  usedRatio: number | null;
}

export interface Quota {
  usage: { windows: QuotaWindow[]; wallet: Wallet | null; plan: string | null } | null;
  /** Milliseconds since 1970; 0 if there never was an answer. */
  fetchedAt: number;
  /** Why there is nothing newer. */
  problem: string | null;
}

export interface Profile {
  userId: string;
  name: string;
  plan: string | null;
  level: number;
  email: string | null;
  region: string | null;
}

export interface Listing<M> {
  models: M[];
  /** Milliseconds since 1970; 0 for the fallback table. */
  fetchedAt: number;
  baseUrl: string;
}

/** What Pi resolved for a request; without it the addon looks for a credential itself. */
export interface Credential {
  apiKey?: string;
  baseUrl?: string;
}

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

  /** Sets a key in a settings file (`undefined` takes it out), tells whoever follows, and returns what applies then. */
  change(scope: "home" | "project", path: string, value: unknown): SettingsReport {
    const text = value === undefined ? "null" : JSON.stringify(value);
    parseAnswer(this.#addon.changeSetting(this.#request(), scope, path, text));
    const report = this.settings();
    for (const listener of this.#listeners) listener(report.settings);
    return report;
  }

  /** Calls back after each `change`, with what applies from then on. Returns how to end that. */
  onChange(listener: (settings: Settings) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The models as known without a network. */
  models<M>(credential: Credential = {}): Listing<M> {
    return parseAnswer(this.#addon.models(this.#request(credential)));
  }

  /** Asks the service for its models; `models` returns them from then on. */
  async refreshModels(credential: Credential = {}): Promise<void> {
    parseAnswer(await this.#addon.refreshModels(this.#request(credential)));
  }

  /** The quota, at most this old. 0 asks in any case; anything else shares the answer with other processes. */
  async quota(credential: Credential = {}, maxAgeMs = 0): Promise<Quota> {
    return parseAnswer(await this.#addon.usage(this.#request(credential), maxAgeMs));
  }

  async profile(credential: Credential = {}): Promise<Profile> {
    return parseAnswer(await this.#addon.profile(this.#request(credential)));
  }

  #request(credential: Credential = {}): string {
    return requestText({ host: this.#host, extensionEnvironment: this.#extensionEnvironment }, credential);
  }
}
