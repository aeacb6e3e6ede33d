// Quota windows that requests fill and that open again, one set for each account. What a token costs is a secret of the service:
// it tells whole percents only (docs/protocol.md#usages), and refuses requests once a window is used up
// (docs/protocol.md#quota-errors).

import { faults } from "./faults.ts";
import type { Json, JsonObject } from "./json.ts";
import type { HttpAnswer } from "./types.ts";

export interface PlanWindow {
  /** Name in the answer. */
  name: "limit_5h" | "limit_7d";
  /** Exact percent that is used. */
  percent: number;
  /** When it opens again, in Unix milliseconds. */
  opensAt: number;
  /** Length of the windows that follow, in milliseconds. */
  lengthMs: number;
  /** Percent that a token costs. */
  weights: TokenWeights;
}

export interface TokenWeights {
  uncached: number;
  cached: number;
  output: number;
}

interface TokenCounts {
  prompt: number;
  cached: number;
  completion: number;
}

export class PlanWindows {
  /** Changes what `/usages` says: other forms of a reset, bought credit, nothing at all. */
  tell: (document: JsonObject) => Json = (document) => document;
  readonly #fresh: (account: string) => PlanWindow[];
  readonly #accounts = new Map<string, PlanWindow[]>();

  /** `fresh` makes the windows of an account when it is seen first. */
  constructor(fresh: (account: string) => PlanWindow[]) {
    this.#fresh = fresh;
  }

  /** Returns the windows of an account as they are now; they may be changed. */
  of(account: string): PlanWindow[] {
    const windows = this.#accounts.get(account) ?? this.#fresh(account);
    this.#accounts.set(account, windows);
    const now = Date.now();
    for (const window of windows) {
      if (window.opensAt > now) continue;
      window.percent = 0;
      window.opensAt += Math.ceil((now - window.opensAt + 1) / window.lengthMs) * window.lengthMs;
    }
    return windows;
  }

  /** What `/usages` says. A reset is never told too early. */
  document(account: string): Json {
    const usages = this.of(account).map(({ name, percent, opensAt }) => {
      const reset = new Date(Math.ceil(opensAt / 1000) * 1000).toISOString().replace(".000Z", "Z");
      return [name, { used_ratio: Math.floor(percent) / 100, reset_time: reset }] as const;
    });
    return this.tell({ usages: Object.fromEntries(usages) });
  }

  /** The answer to a request while a window is used up. */
  refusal(account: string): HttpAnswer | undefined {
    const full = this.of(account).find(({ percent }) => percent >= 100);
    if (full === undefined) return undefined;
    return faults[full.name === "limit_7d" ? "weekly-limit" : "cycle-limit"].http;
  }

  /** Counts an answered request. */
  charge(account: string, { prompt, cached, completion }: TokenCounts): void {
    for (const window of this.of(account)) {
      const { weights } = window;
      window.percent += weights.uncached * (prompt - cached) + weights.cached * cached + weights.output * completion;
    }
  }
}
