/**
 * The list of models that Pi sees: at once and offline from the last catalog, replaced when the service has answered
 * (docs/pi-contract.md#native-provider).
 */
import type { Credential as PiCredential, Model, Provider, RefreshModelsContext } from "@earendil-works/pi-ai";
import { defer } from "./lazy.ts";
import type { AddonQueries, Credential } from "./queries.ts";

export const PROVIDER_ID = "kimi-coding";
export const API_ID = "kimi-code-native";

type Entry = Omit<Model<string>, "api" | "provider" | "baseUrl">;

/** Largest image that Pi sends unresized, as its own table has it (docs/pi-contract.md#model-table). */
const INPUT_LIMITS = { images: { resize: { maxWidth: 2000, maxHeight: 2000, maxBytes: 4_718_592, jpegQuality: 80 } } };

export class ModelList {
  readonly #queries: AddonQueries;
  #models: Model<string>[] = [];
  #credential: Credential = {};
  #running: Promise<void> | undefined;
  baseUrl = "";
  /** When the service said so, in milliseconds since 1970; 0 for the fallback table. */
  fetchedAt = 0;

  constructor(queries: AddonQueries) {
    this.#queries = queries;
    this.reload();
  }

  /** Lets Pi take a new list over; the running session brings it. Without one nobody looks at the list. */
  announce: (() => Promise<unknown>) | undefined;

  get models(): Model<string>[] {
    return this.#models;
  }

  /** Reads the last catalog again. Where that fails, what we have stays. */
  reload(): void {
    const { models, baseUrl, fetchedAt } = this.#queries.models<Entry>(this.#credential);
    this.baseUrl = baseUrl;
    this.fetchedAt = fetchedAt;
    this.#models = models.map((entry) => ({
      ...entry,
      api: API_ID,
      provider: PROVIDER_ID,
      baseUrl,
      inputLimits: INPUT_LIMITS,
    }));
  }

  /** Asks the service; a second caller waits for the first one's answer. */
  refresh(credential: Credential): Promise<void> {
    this.#credential = credential;
    this.#running ??= this.#queries.refreshModels(credential).finally(() => (this.#running = undefined));
    return this.#running;
  }

  /** Asks the service and shows Pi the answer. Without a network the last list stays; never fails. */
  async update(credential: Credential): Promise<void> {
    try {
      await this.refresh(credential);
      this.reload();
      await this.announce?.();
    } catch {
      // As said: the last one stays.
    }
  }

  /** There is a new login, or a new token of the same: what the account may use can have changed. */
  renewed(credential: PiCredential): void {
    const known = credentialFromPi(credential);
    if (this.announce !== undefined && known !== undefined) defer(() => this.update(known));
  }

  /** The members of Pi's native provider that concern models. */
  provider(): Pick<Provider, "getModels" | "refreshModels" | "filterModels"> {
    return {
      getModels: () => this.#models,
      // The catalog is what this account may use; there is nothing left to filter.
      filterModels: (models) => models,
      refreshModels: (context) => this.#refreshForPi(context),
    };
  }

  async #refreshForPi(context: RefreshModelsContext): Promise<void> {
    const credential = credentialFromPi(context.credential);
    if (credential !== undefined) this.#credential = credential;
    if (context.allowNetwork && !context.signal?.aborted) {
      try {
        await this.refresh(this.#credential);
      } catch (error) {
        // The last list stays. Only whoever asked for a fresh one has to know that this is not one.
        if (context.force === true) throw error;
      }
    }
    const update = (): void => this.reload();
    // Pi before 0.84 has no publications.
    if (typeof context.publish === "function") await context.publish({ update });
    else update();
  }
}

function credentialFromPi(credential: PiCredential | undefined): Credential | undefined {
  if (credential?.type === "api_key") return credential.key ? { apiKey: credential.key } : {};
  if (credential?.type !== "oauth") return undefined;
  const baseUrl = credential["baseUrl"];
  return { apiKey: credential.access, ...(typeof baseUrl === "string" ? { baseUrl } : {}) };
}
