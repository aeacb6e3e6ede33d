/**
 * Builds the provider object that Pi sees: id `kimi-coding`, with an api id of its own, because reusing a built-in one would
 * take over every provider that uses it (docs/pi-contract.md#choosing-the-implementation).
 */
import type {
  AssistantMessageEventStream,
  CreateProviderOptions,
  Model,
  Provider,
  SimpleStreamOptions,
  TranscriptContext,
} from "@earendil-works/pi-ai";
import { kimiAuth } from "./auth.ts";
import type { OAuthCredential } from "./credential.ts";
import type { ExtensionEnvironment, Host } from "./environment.ts";
import { type ModelList, PROVIDER_ID } from "./models.ts";
import type { Addon } from "./native/addon.ts";
import { TurnRunner } from "./turn/runner.ts";

const DISPLAY_NAME = "Kimi Code";

/** What we use of pi-ai at run time. Imported dynamically, because its names differ between versions of Pi. */
export interface PiAi {
  createAssistantMessageEventStream(): AssistantMessageEventStream;
  createProvider?(input: CreateProviderOptions): Provider;
}

/** What the provider works with. */
export interface ProviderParts {
  addon: Addon;
  piAi: PiAi;
  host: Host;
  extensionEnvironment: ExtensionEnvironment;
  models: ModelList;
  turnRunner: TurnRunner;
  /** A key that outranks every other credential. */
  key?: string | undefined;
}

/** Builds the provider object, or returns why this Pi cannot use it. */
export function kimiProvider(parts: ProviderParts): { provider: Provider } | { problem: string } {
  const { addon, piAi, host, extensionEnvironment, models, turnRunner, key } = parts;
  if (typeof piAi.createProvider !== "function") {
    return { problem: "Kimi Code: this version of Pi is too old for the provider (0.81 or newer is needed)." };
  }
  const stream = (
    model: Model<string>,
    context: TranscriptContext,
    options?: SimpleStreamOptions,
  ): AssistantMessageEventStream => {
    const events = piAi.createAssistantMessageEventStream();
    turnRunner.run(events, model, context, key === undefined ? options : { ...options, apiKey: key });
    return events;
  };
  const onCredential = (credential: OAuthCredential): void => models.credentialChanged(credential);
  const built = piAi.createProvider({
    id: PROVIDER_ID,
    name: DISPLAY_NAME,
    baseUrl: models.baseUrl,
    auth: kimiAuth(addon, { host, key, extensionEnvironment, onCredential }),
    models: [],
    api: { stream, streamSimple: stream },
  });
  return { provider: { ...built, ...models.provider() } };
}
