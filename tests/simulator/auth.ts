// Who may call: accepted tokens in either header form, and the gate against unknown clients
// (docs/protocol.md#identity-gate, docs/protocol.md#messages-headers).

import { invalidCredential, unknownClient } from "./errors.ts";
import type { RequestRecord, Settings } from "./types.ts";

const AGENTS = ["pi/", "pi (", "KimiCLI/", "kimi-code-cli/"];

export function presentedTokens(headers: Record<string, string>): { bearer?: string; apiKey?: string } {
  const bearer = /^Bearer\s+(.+)$/i.exec(headers["authorization"] ?? "")?.[1]?.trim();
  const apiKey = headers["x-api-key"];
  return { ...(bearer ? { bearer } : {}), ...(apiKey ? { apiKey } : {}) };
}

export function authKind(headers: Record<string, string>): RequestRecord["auth"] {
  const { bearer, apiKey } = presentedTokens(headers);
  if (bearer !== undefined) return apiKey === undefined ? "bearer" : "both";
  return apiKey === undefined ? "none" : "x-api-key";
}

export function checkCredential(headers: Record<string, string>, accepts: (token: string) => boolean): void {
  const { bearer, apiKey } = presentedTokens(headers);
  const token = bearer ?? apiKey;
  if (token === undefined || !accepts(token)) throw invalidCredential();
}

export function checkIdentity(headers: Record<string, string>, gate: Settings["identityGate"]): void {
  if (gate === "off") return;
  const agent = headers["user-agent"] ?? "";
  if (AGENTS.some((prefix) => agent.startsWith(prefix))) return;
  if ((headers["x-msh-platform"] ?? "") !== "") return;
  throw unknownClient();
}
