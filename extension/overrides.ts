/**
 * What the program around us may decide: it outranks the environment and what Pi has stored.
 */

export interface Overrides {
  /** Kimi Code key. Without it Pi's stored key counts, then `KIMI_API_KEY`. */
  apiKey?: string;
  /** Root of the service, with or without a final `/v1`. Without it `KIMI_CODE_BASE_URL` counts. */
  baseUrl?: string;
  /** Variables of docs/ENV.md that outrank the process environment. */
  env?: Record<string, string>;
}

/** Overrides as the variables they stand for; the key travels apart. */
export function overridingVariables({ baseUrl, env }: Overrides): Record<string, string> {
  return { ...env, ...(baseUrl === undefined ? {} : { KIMI_CODE_BASE_URL: baseUrl }) };
}
