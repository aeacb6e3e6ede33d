// What a renderer needs to know about the request it answers.

import type { UsageSpec } from "./types.ts";

export interface AnswerContext {
  /** Response id without the dialect's prefix: 24 hex digits. */
  id: string;
  /** Unix seconds. */
  created: number;
  model: string;
  promptTokens: number;
  cachedTokens: number;
  completionTokens: number;
}

/** Applies after the scenario's own settings. */
export function settleUsage(context: AnswerContext, spec: UsageSpec | undefined): Required<Omit<UsageSpec, "raw">> {
  return {
    prompt: spec?.prompt ?? context.promptTokens,
    completion: spec?.completion ?? context.completionTokens,
    cached: spec?.cached ?? (spec?.prompt === undefined ? context.cachedTokens : 0),
    reasoning: spec?.reasoning ?? 0,
  };
}
