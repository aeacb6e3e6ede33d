/**
 * Builds the provider object that Pi sees: id `kimi-coding`, with an api id of its own, because reusing a built-in one would
 * take over every provider that uses it (docs/pi-contract.md#choosing-the-implementation).
 */
import type {
  AssistantMessageEventStream,
  Model,
  Provider,
  SimpleStreamOptions,
  TranscriptContext,
} from "@earendil-works/pi-ai";
import { kimiAuth } from "./auth.ts";
import type { OAuthCredential, PiCredentials } from "./credential.ts";
import type { ExtensionEnvironment, Host } from "./environment.ts";
import { PROVIDER_ID } from "./ids.ts";
import type { ModelList, ModelMembers } from "./models.ts";
import type { Addon } from "./native/addon.ts";
import type { TurnRunner } from "./turn/runner.ts";

const DISPLAY_NAME = "Kimi Code";

/** What we use of pi-ai at run time. Imported dynamically, because its names differ between versions of Pi. */
export interface PiAi {
  createAssistantMessageEventStream(): AssistantMessageEventStream;
}

/** What the provider works with. */
export interface ProviderParts {
  addon: Addon;
  piAi: PiAi;
  host: Host;
  extensionEnvironment: ExtensionEnvironment;
  credentials: PiCredentials;
  models: ModelList;
  turnRunner: TurnRunner;
  /** A key that outranks every other credential. */
  key?: string | undefined;
}

/**
 * Builds the provider object.
 *
 * It has every member that Pi may ask for, each written here: an object made by Pi's `createProvider` has members of newer
 * versions too, and Pi believes them (docs/pi-contract.md#native-provider). There is no `baseUrl`, see credential.ts.
 */
export function kimiProvider(parts: ProviderParts): Provider & ModelMembers {
  const { addon, piAi, host, extensionEnvironment, credentials, models, turnRunner, key } = parts;
  const stream = (
    model: Model<string>,
    context: TranscriptContext,
    options?: SimpleStreamOptions,
  ): AssistantMessageEventStream => {
    const events = piAi.createAssistantMessageEventStream();
    const given = key === undefined ? options : { ...options, apiKey: key };
    turnRunner.run(events, models.addressed(model, given?.apiKey), context, given);
    return events;
  };
  const onCredential = (credential: OAuthCredential): void => models.credentialChanged(credential);
  return {
    id: PROVIDER_ID,
    name: DISPLAY_NAME,
    auth: kimiAuth(addon, { host, key, extensionEnvironment, credentials, onCredential }),
    ...models.members(),
    stream: stream as Provider["stream"],
    streamSimple: stream,
  };
}
