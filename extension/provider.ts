/**
 * The provider that Pi sees: id `kimi-coding` in Pi's native form, with a private api id, because reusing a built-in one would
 * take over every provider that uses it (pi-extension §2.4).
 */
import type {
  AssistantMessageEventStream,
  CreateProviderOptions,
  Model,
  Provider,
  SimpleStreamOptions,
  TranscriptContext,
} from "@earendil-works/pi-ai";
import type { Host } from "./environment.ts";
import { kimiAuth } from "./login.ts";
import { type ModelList, PROVIDER_ID } from "./models.ts";
import type { Addon } from "./native.ts";
import type { Notices } from "./notices.ts";
import { runTurn } from "./stream.ts";

const DISPLAY_NAME = "Kimi Code";

/** What we need of pi-ai at run time. Reached dynamically: which names exist depends on the version of Pi. */
export interface PiAi {
  createAssistantMessageEventStream(): AssistantMessageEventStream;
  createProvider?(input: CreateProviderOptions): Provider;
}

/** Builds the provider object, or says why this Pi cannot take it. `key` outranks every other credential. */
export function kimiProvider(
  addon: Addon,
  piAi: PiAi,
  host: Host,
  list: ModelList,
  notices?: Notices,
  key?: string,
): { provider: Provider } | { problem: string } {
  if (typeof piAi.createProvider !== "function") {
    return { problem: "Kimi Code: this version of Pi is too old for the provider (0.81 or newer is needed)." };
  }
  const stream = (
    model: Model<string>,
    context: TranscriptContext,
    options?: SimpleStreamOptions,
  ): AssistantMessageEventStream => {
    const events = piAi.createAssistantMessageEventStream();
    const decided = key === undefined ? options : { ...options, apiKey: key };
    runTurn(addon, host, events, model, context, decided, notices);
    return events;
  };
  const built = piAi.createProvider({
    id: PROVIDER_ID,
    name: DISPLAY_NAME,
    baseUrl: list.baseUrl,
    auth: kimiAuth(addon, { host, key }),
    models: [],
    api: { stream, streamSimple: stream },
  });
  return { provider: { ...built, ...list.provider() } };
}
