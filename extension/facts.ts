/**
 * What the addon knows beside answers, typed: settings, models, quota, account.
 *
 * Usable without Pi; inside Pi the credential is the one that Pi resolved, so that a login Pi refreshes is refreshed by Pi.
 */
import { environment, type Host, Surroundings } from "./environment.ts";
import type { Addon } from "./native.ts";

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
  /** Milliseconds since 1970; null if there never was an answer. */
  fetchedAt: number | null;
  /** Why there is nothing newer. */
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

/** A failure as the addon tells it. */
export class FactsError extends Error {
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

export class Facts {
  readonly #addon: Addon;
  readonly #host: Host;
  readonly #surroundings: Surroundings;
  readonly #listeners = new Set<(settings: Settings) => void>();

  constructor(addon: Addon, host: Host, surroundings = new Surroundings()) {
    this.#addon = addon;
    this.#host = host;
    this.#surroundings = surroundings;
  }

  settings(): SettingsReport {
    return read(this.#addon.settings(this.#question()));
  }

  settingKeys(): SettingKey[] {
    return JSON.parse(this.#addon.settingKeys()) as SettingKey[];
  }

  /** Sets a key in a settings file (`undefined` takes it out), tells whoever follows, and returns what applies then. */
  change(scope: "home" | "project", path: string, value: unknown): SettingsReport {
    const text = value === undefined ? "null" : JSON.stringify(value);
    read(this.#addon.changeSetting(this.#question(), scope, path, text));
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
    return read(this.#addon.models(this.#question(credential)));
  }

  /** Asks the service for its models; `models` returns them from then on. */
  async refreshModels(credential: Credential = {}): Promise<void> {
    read(await this.#addon.refreshModels(this.#question(credential)));
  }

  /** The quota, at most this old. 0 asks in any case; anything else shares the answer with other processes. */
  async quota(credential: Credential = {}, maxAgeMs = 0): Promise<Quota> {
    return read(await this.#addon.usage(this.#question(credential), maxAgeMs));
  }

  async profile(credential: Credential = {}): Promise<Profile> {
    return read(await this.#addon.profile(this.#question(credential)));
  }

  #question(credential: Credential = {}): string {
    return JSON.stringify({
      environment: environment(this.#surroundings.variables()),
      host: this.#host,
      ...credential,
    });
  }
}

function read<T>(text: string): T {
  const answer = JSON.parse(text) as T & { error?: { code: string; message: string } };
  if (answer.error !== undefined) throw new FactsError(answer.error.code, answer.error.message);
  return answer;
}
