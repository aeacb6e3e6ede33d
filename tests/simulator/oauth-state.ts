// Logins as the service sees them. Refresh tokens work once; using one ends the family's earlier access tokens, whatever their
// expiry; a used refresh token is refused and counted (docs/protocol.md#refresh-token-rotation).

import { randomBytes } from "node:crypto";
import type { JsonObject } from "./json.ts";
import type { HttpAnswer } from "./types.ts";

/** Answers to successive polls of one device code: an OAuth error code, `approve`, or any HTTP answer. The last one repeats. */
export type DeviceStep =
  | "authorization_pending"
  | "slow_down"
  | "expired_token"
  | "access_denied"
  | "approve"
  | HttpAnswer;

export interface Grant {
  access: string;
  refresh: string;
  expiresIn: number;
}

/** How the token endpoint treats one refresh. */
export interface RefreshPlan {
  /** Milliseconds until the tokens are rotated. */
  beforeMs?: number;
  /** Milliseconds between the rotation and the answer. */
  afterMs?: number;
  /** Status of a failure in place of the rotation. */
  failure?: number;
  /** The tokens are rotated, but the connection breaks before the answer. */
  answerLost?: boolean;
}

interface Access {
  expiresAt: number;
  family: string;
}

const DEFAULT_SCRIPT: readonly DeviceStep[] = ["authorization_pending", "approve"];

export class OAuthState {
  /** Lifetime of new access tokens in seconds. */
  expiresIn = 900;
  /** Seconds between polls, as announced. */
  interval = 1;
  deviceExpiresIn = 1800;
  /** Tokens are JWTs that name their user; otherwise random text. */
  readable = true;
  /** How long the token endpoint takes for a refresh. */
  tokenDelayMs = 0;
  /** Chooses how a refresh is treated; without it, or where it returns nothing, {@link tokenDelayMs} applies. */
  planRefresh: ((presented: string) => RefreshPlan | undefined) | undefined = undefined;
  /** Members that replace those of an answer. `null` values stay in the JSON. */
  deviceAnswer: JsonObject = {};
  tokenAnswer: JsonObject = {};
  /** One script per device code, in order; afterwards the default. */
  readonly scripts: DeviceStep[][] = [];
  /** Requests with a refresh token, successful or not. */
  refreshCalls = 0;
  refreshes = 0;
  /** A refresh token was presented a second time. */
  reuses = 0;
  logins = 0;
  readonly #codes = new Map<string, DeviceStep[]>();
  readonly #access = new Map<string, Access>();
  readonly #refresh = new Map<string, string>();
  readonly #spent = new Set<string>();

  reset(): void {
    Object.assign(this, { ...new OAuthState(), scripts: this.scripts });
    for (const known of [this.#codes, this.#access, this.#refresh, this.#spent]) known.clear();
    this.scripts.length = 0;
  }

  newDeviceCode(): { userCode: string; deviceCode: string } {
    const digits = randomBytes(4).toString("hex").toUpperCase();
    const deviceCode = randomBytes(20).toString("hex");
    this.#codes.set(deviceCode, [...(this.scripts.shift() ?? DEFAULT_SCRIPT)]);
    return { userCode: `${digits.slice(0, 4)}-${digits.slice(4)}`, deviceCode };
  }

  nextStep(deviceCode: string): DeviceStep {
    const script = this.#codes.get(deviceCode);
    if (script === undefined) return "expired_token";
    const step = (script.length > 1 ? script.shift() : script[0]) ?? "approve";
    if (step === "approve") this.#codes.delete(deviceCode);
    return step;
  }

  /** Creates a login, as if a user had confirmed it. */
  login(subject = "sim-user"): Grant {
    this.logins += 1;
    return this.#issue(subject, randomBytes(6).toString("hex"));
  }

  /** Returns the successor of a refresh token, or why there is none. */
  rotate(presented: string): Grant | string {
    if (this.#spent.has(presented)) {
      this.reuses += 1;
      return "the refresh token has already been used";
    }
    const family = this.#refresh.get(presented);
    if (family === undefined) return "unknown refresh token";
    this.#refresh.delete(presented);
    this.#spent.add(presented);
    this.revokeAccess(family);
    this.refreshes += 1;
    const [subject = "", id = ""] = family.split("/");
    return this.#issue(subject, id);
  }

  /** Revokes access tokens: of one family, or all. Refresh tokens stay valid. */
  revokeAccess(family?: string): void {
    for (const [token, access] of this.#access) {
      if (family === undefined || access.family === family) this.#access.delete(token);
    }
  }

  /** Revokes one access token. */
  endAccess(token: string): void {
    this.#access.delete(token);
  }

  /** Revokes every login for good. */
  revokeAll(): void {
    this.revokeAccess();
    this.#refresh.clear();
  }

  accepts(token: string): boolean {
    return (this.#access.get(token)?.expiresAt ?? 0) > Date.now();
  }

  /** Returns the owner of an access token. */
  subjectOf(token: string): string | undefined {
    return this.#access.get(token)?.family.split("/")[0];
  }

  /** Whether a refresh token would still be accepted. */
  isAlive(refresh: string): boolean {
    return this.#refresh.has(refresh);
  }

  #issue(subject: string, id: string): Grant {
    const family = `${subject}/${id}`;
    const expiresAt = Date.now() + this.expiresIn * 1000;
    const token = this.readable ? jwt : opaque;
    const access = token({ iss: "kimi-sim", sub: subject, typ: "access", exp: Math.floor(expiresAt / 1000) });
    const refresh = token({ iss: "kimi-sim", sub: subject, typ: "refresh" });
    this.#access.set(access, { expiresAt, family });
    this.#refresh.set(refresh, family);
    return { access, refresh, expiresIn: this.expiresIn };
  }
}

/** Shaped like the service's tokens: three parts, the middle one readable (docs/protocol.md#token-answers). */
function jwt(claims: JsonObject): string {
  const part = (value: JsonObject): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  const unique = { ...claims, jti: randomBytes(6).toString("hex") };
  return `${part({ alg: "none", typ: "JWT" })}.${part(unique)}.simulator`;
}

function opaque(): string {
  return randomBytes(24).toString("base64url");
}
