/**
 * Keeps the list of models that Pi sees: the stored list at first, the list of the service once it has answered
 * (docs/pi-contract.md#model-refresh).
 */
import type { Credential as PiCredential, Model, Provider, RefreshModelsContext } from "@earendil-works/pi-ai";
import type { ExtensionContext } from "@earendil-works/pi-coding-agent";
import type { AddressedModel, PiCredentials } from "./credential.ts";
import { API_ID, PROVIDER_ID } from "./ids.ts";
import { defer } from "./lazy.ts";
import type { AddonQueries, Credential } from "./queries.ts";

type Entry = Omit<Model<string>, "api" | "provider" | "baseUrl">;

/** Members of Pi's provider that concern models. Pi before 0.99 knows chat models only and ignores those with `All`. */
export interface ModelMembers extends Required<Pick<Provider, "getModels" | "refreshModels" | "filterModels">> {
  getAllModels(): readonly Model<string>[];
  filterAllModels<M>(models: readonly M[]): readonly M[];
}

/** Limits above which Pi resizes an image; those of its own table (docs/pi-contract.md#model-table). */
const INPUT_LIMITS = { images: { resize: { maxWidth: 2000, maxHeight: 2000, maxBytes: 4_718_592, jpegQuality: 80 } } };

/** Returns whether the selected model is one of ours that takes images, and perhaps videos. */
export function takesMedia(model: Pick<Model<string>, "provider" | "input"> | undefined): boolean {
  return model?.provider === PROVIDER_ID && model.input.includes("image");
}

/** Returns whether the selected model is ours and differs from the current list in what Pi uses of it. */
export function isOutdated({ model, modelRegistry }: Pick<ExtensionContext, "model" | "modelRegistry">): boolean {
  if (model?.provider !== PROVIDER_ID) return false;
  const listed = modelRegistry.find(PROVIDER_ID, model.id);
  const traits = (one: Model<string>): string => {
    const { contextWindow, maxTokens, reasoning, thinkingLevelMap, input } = one;
    return JSON.stringify([contextWindow, maxTokens, reasoning, thinkingLevelMap, input, cacheLifetime(one)]);
  };
  return listed !== undefined && traits(listed) !== traits(model);
}

/** Returns the lifetime that Pi's cache warmer goes by; Pi knows the member since 1.5.1. */
function cacheLifetime(model: Model<string>): unknown {
  return (model as { promptCache?: unknown }).promptCache;
}

export class ModelList {
  readonly #queries: AddonQueries;
  readonly #credentials: PiCredentials;
  /** Every address that an entry of ours has had. */
  readonly #addresses = new Set<string>();
  #models: Model<string>[] = [];
  #credential: Credential = {};
  #running: Promise<void> | undefined;
  baseUrl = "";
  /** Time of the service's answer in milliseconds since 1970; 0 for the built-in list. */
  fetchedAt = 0;

  constructor(queries: AddonQueries, credentials: PiCredentials) {
    this.#queries = queries;
    this.#credentials = credentials;
    this.#credential = credentials.ofKey(undefined);
    this.reload();
  }

  /** Makes Pi read the list again. Set while a session with a screen runs. */
  announce: (() => Promise<unknown>) | undefined;

  get models(): Model<string>[] {
    return this.#models;
  }

  /** Reads the stored list again. Throws if the settings are unusable; the list then stays as it is. */
  reload(): void {
    const { models, baseUrl, fetchedAt } = this.#queries.models<Entry>(this.#credential);
    this.baseUrl = baseUrl;
    this.fetchedAt = fetchedAt;
    this.#addresses.add(baseUrl);
    this.#models = models.map((entry) => ({
      ...entry,
      api: API_ID,
      provider: PROVIDER_ID,
      baseUrl,
      inputLimits: INPUT_LIMITS,
    }));
  }

  /** Waits for a list where none is stored. On an error the built-in list stays. */
  async complete(credential: Credential, maxWaitMs: number): Promise<void> {
    if (maxWaitMs === 0 || this.fetchedAt > 0) return;
    this.#credential = credential;
    try {
      await this.#queries.ensureModels(credential, maxWaitMs);
      this.reload();
    } catch {
      // Without a credential, for example.
    }
  }

  /** Asks the service. Concurrent calls share one request. */
  refresh(credential: Credential): Promise<void> {
    this.#credential = credential;
    this.#running ??= this.#queries.refreshModels(credential).finally(() => (this.#running = undefined));
    return this.#running;
  }

  /** Asks the service and tells Pi about the answer. On an error the last list stays. */
  async update(credential: Credential): Promise<void> {
    try {
      await this.refresh(credential);
      this.reload();
      await this.announce?.();
    } catch {
      // The last list stays.
    }
  }

  /** Updates the list after a login or a token refresh, because the account's models may have changed. */
  credentialChanged(credential: PiCredential): void {
    const known = this.#credentials.ofStored(credential);
    if (this.announce !== undefined && known !== undefined) defer(() => this.update(known));
  }

  /** Adds the addresses of a request to a model of this list or of models.json. */
  addressed(model: Model<string>, apiKey: string | undefined): AddressedModel {
    return this.#credentials.addressed(model, apiKey, this.#addresses);
  }

  /** Returns the members of Pi's provider that concern models. */
  members(): ModelMembers {
    return {
      getModels: () => this.#models,
      getAllModels: () => this.#models,
      // The list already has only what this account may use.
      filterModels: (models) => models,
      filterAllModels: (models) => models,
      refreshModels: (context) => this.#refreshForPi(context),
    };
  }

  async #refreshForPi(context: RefreshModelsContext): Promise<void> {
    this.#credentials.noteProviderBase((context as { baseUrl?: string }).baseUrl);
    const credential = this.#credentials.ofStored(context.credential);
    if (credential !== undefined) this.#credential = credential;
    if (context.allowNetwork && !context.signal?.aborted) {
      try {
        await this.refresh(this.#credential);
      } catch (error) {
        // The last list stays. Only an explicit refresh reports the error.
        if (context.force === true) throw error;
      }
    }
    const update = (): void => this.reload();
    // Pi before 0.84 has no publications.
    if (typeof context.publish === "function") await context.publish({ update });
    else update();
  }
}
