/**
 * Reads the credential that Pi has for Kimi Code.
 */
import type { Credential as PiCredential } from "@earendil-works/pi-ai";
import type { ExtensionContext } from "@earendil-works/pi-coding-agent";
import { PROVIDER_ID } from "./models.ts";
import type { Credential } from "./queries.ts";

export type OAuthCredential = Extract<PiCredential, { type: "oauth" }>;

/** Returns Pi's credential for our provider; without one, the addon looks for a credential itself. */
export async function credentialOf(ctx: ExtensionContext): Promise<Credential> {
  const registry = ctx.modelRegistry as Partial<ExtensionContext["modelRegistry"]> & object;
  const auth = await registry.getProviderAuth?.(PROVIDER_ID);
  if (auth === undefined) {
    const apiKey = await registry.getApiKeyForProvider?.(PROVIDER_ID);
    return apiKey === undefined ? {} : { apiKey };
  }
  const { apiKey, baseUrl } = auth.auth;
  return { ...(apiKey === undefined ? {} : { apiKey }), ...(baseUrl === undefined ? {} : { baseUrl }) };
}
