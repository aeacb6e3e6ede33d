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
import { environment, type Host } from "./environment.ts";
import { kimiAuth } from "./login.ts";
import type { Addon } from "./native.ts";
import type { Notices } from "./notices.ts";
import { runTurn } from "./stream.ts";

export const PROVIDER_ID = "kimi-coding";
export const API_ID = "kimi-code-native";
const DISPLAY_NAME = "Kimi Code";

/** What we need of pi-ai at run time. Reached dynamically: which names exist depends on the version of Pi. */
export interface PiAi {
  createAssistantMessageEventStream(): AssistantMessageEventStream;
  createProvider?(input: CreateProviderOptions): Provider;
}

type Entry = Omit<Model<string>, "api" | "provider" | "baseUrl">;

/** Largest picture that Pi sends unresized, as its own table has it (pi-extension §2.9). */
const INPUT_LIMITS = { images: { resize: { maxWidth: 2000, maxHeight: 2000, maxBytes: 4_718_592, jpegQuality: 80 } } };

/** Builds the provider object, or says why this Pi cannot take it. */
export function kimiProvider(
  addon: Addon,
  piAi: PiAi,
  host: Host,
  notices?: Notices,
): { provider: Provider } | { problem: string } {
  if (typeof piAi.createProvider !== "function") {
    return { problem: "Kimi Code: this version of Pi is too old for the provider (0.81 or newer is needed)." };
  }
  const baseUrl = addon.apiRoot(JSON.stringify(environment()));
  const entries = JSON.parse(addon.fallbackModels()) as Entry[];
  const models = entries.map((entry) => ({
    ...entry,
    api: API_ID,
    provider: PROVIDER_ID,
    baseUrl,
    inputLimits: INPUT_LIMITS,
  }));
  const stream = (
    model: Model<string>,
    context: TranscriptContext,
    options?: SimpleStreamOptions,
  ): AssistantMessageEventStream => {
    const events = piAi.createAssistantMessageEventStream();
    runTurn(addon, host, events, model, context, options, notices);
    return events;
  };
  return {
    provider: piAi.createProvider({
      id: PROVIDER_ID,
      name: DISPLAY_NAME,
      baseUrl,
      auth: kimiAuth(addon, host),
      models,
      api: { stream, streamSimple: stream },
    }),
  };
}
