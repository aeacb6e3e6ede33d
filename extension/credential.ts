/**
 * Reads the credential that Pi has for Kimi Code, and the addresses that come with it.
 *
 * Two addresses may differ from the default one: that of a login, because kimi.com and kimi.ai have separate accounts, and the
 * `baseUrl` of the user's models.json. Which of them counts is decided by the addon (docs/settings.md#addresses).
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Credential as PiCredential, Model } from "@earendil-works/pi-ai";
import type { ExtensionContext } from "@earendil-works/pi-coding-agent";
import { PROVIDER_ID } from "./ids.ts";
import type { Credential } from "./queries.ts";

export type OAuthCredential = Extract<PiCredential, { type: "oauth" }>;

type Registry = Partial<ExtensionContext["modelRegistry"]> & object;

/** Number of access tokens whose address is remembered. A session needs the current one and the one before a refresh. */
const REMEMBERED_TOKENS = 8;

/** Pi's model with the addresses of a request. */
export type AddressedModel = Model<string> & { modelsJsonBaseUrl?: string };

/** The credentials of one extension. */
export class PiCredentials {
  readonly #loginBases = new Map<string, string>();
  #registry: Registry | undefined;
  #modelsJsonBaseUrl: string | undefined;
  #last: Credential | undefined;

  /** `agentDir` has the models.json that counts as long as there is no session. */
  constructor(agentDir?: string) {
    if (agentDir !== undefined) this.#modelsJsonBaseUrl = baseInFile(join(agentDir, "models.json"));
  }

  /** Remembers the API base of a login. Pi is not told about it, because it would replace the address of models.json. */
  registerLogin(access: string, baseUrl: string): void {
    this.#loginBases.delete(access);
    this.#loginBases.set(access, baseUrl);
    for (const oldest of this.#loginBases.keys()) {
      if (this.#loginBases.size <= REMEMBERED_TOKENS) break;
      this.#loginBases.delete(oldest);
    }
  }

  /** Follows a session, whose registry knows models.json. */
  enterSession({ modelRegistry }: Pick<ExtensionContext, "modelRegistry">): void {
    this.#registry = modelRegistry;
  }

  /** Takes the address of the registered provider from a refresh of models, which may run without a session. */
  noteProviderBase(baseUrl: string | undefined): void {
    if (baseUrl !== undefined) this.#modelsJsonBaseUrl = baseUrl;
  }

  /** Returns the `baseUrl` of models.json. Our own provider object has none, so what Pi composed from both is the file's. */
  get modelsJsonBaseUrl(): string | undefined {
    try {
      if (this.#registry?.getProvider !== undefined) {
        this.#modelsJsonBaseUrl = this.#registry.getProvider(PROVIDER_ID)?.baseUrl;
      }
    } catch {
      // The registry belongs to a session that has ended. The last known address stays.
      this.#registry = undefined;
    }
    return this.#modelsJsonBaseUrl;
  }

  /** Returns Pi's credential for our provider; without one, the addon looks for a credential itself. */
  async current(ctx: Pick<ExtensionContext, "modelRegistry">): Promise<Credential> {
    const registry: Registry = ctx.modelRegistry;
    const auth = (await registry.getProviderAuth?.(PROVIDER_ID))?.auth;
    this.#last = this.ofKey(auth?.apiKey ?? (await registry.getApiKeyForProvider?.(PROVIDER_ID)));
    return this.#last;
  }

  /** Addresses of the credential that was asked for last; `undefined` as long as there was none. */
  get lastAddresses(): Omit<Credential, "apiKey"> | undefined {
    if (this.#last?.apiKey === undefined) return undefined;
    const { apiKey: _, ...addresses } = this.#last;
    return addresses;
  }

  /** Returns a stored credential as the addon reads it. */
  ofStored(credential: PiCredential | undefined): Credential | undefined {
    if (credential?.type === "api_key") return this.ofKey(credential.key);
    if (credential?.type !== "oauth") return undefined;
    const baseUrl = credential["baseUrl"];
    return { ...this.ofKey(credential.access), ...(typeof baseUrl === "string" ? { baseUrl } : {}) };
  }

  /** Adds the addresses to a model. `own` are the addresses that our list gave to its models; another one is of models.json. */
  addressed(model: Model<string>, apiKey: string | undefined, own: ReadonlySet<string>): AddressedModel {
    const login = apiKey === undefined ? undefined : this.#loginBases.get(apiKey);
    const modelsJsonBaseUrl = own.has(model.baseUrl) ? this.modelsJsonBaseUrl : model.baseUrl;
    return {
      ...model,
      ...(login === undefined ? {} : { baseUrl: login }),
      ...(modelsJsonBaseUrl === undefined ? {} : { modelsJsonBaseUrl }),
    };
  }

  /** Returns a key or access token with its addresses. */
  ofKey(apiKey: string | undefined): Credential {
    const baseUrl = apiKey === undefined ? undefined : this.#loginBases.get(apiKey);
    const { modelsJsonBaseUrl } = this;
    return {
      ...(apiKey ? { apiKey } : {}),
      ...(baseUrl === undefined ? {} : { baseUrl }),
      ...(modelsJsonBaseUrl === undefined ? {} : { modelsJsonBaseUrl }),
    };
  }
}

/** Reads our `baseUrl` from a models.json, which may have comments and trailing commas. Pi reports what is wrong with the file. */
function baseInFile(file: string): string | undefined {
  try {
    const text = readFileSync(file, "utf8").replace(/^\uFEFF/, "");
    const json = text
      .replace(/"(?:\\.|[^"\\])*"|\/\/[^\n]*/g, (match) => (match.startsWith('"') ? match : ""))
      .replace(/"(?:\\.|[^"\\])*"|,(\s*[}\]])/g, (match, end?: string) => end ?? match);
    const { providers } = JSON.parse(json) as { providers?: Record<string, { baseUrl?: unknown } | undefined> };
    const baseUrl = providers?.[PROVIDER_ID]?.baseUrl;
    return typeof baseUrl === "string" ? baseUrl : undefined;
  } catch {
    return undefined;
  }
}
