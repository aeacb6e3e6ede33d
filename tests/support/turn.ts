/** Runs one turn through the addon and our stream, against the simulator, without Pi. */
import {
  type AssistantMessage,
  type AssistantMessageEvent,
  createAssistantMessageEventStream,
  type Model,
} from "@earendil-works/pi-ai";
import { host } from "../../extension/environment.ts";
import type { Addon } from "../../extension/native/addon.ts";
import { loadAddon } from "../../extension/native/loader.ts";
import type { Notices } from "../../extension/turn/notices.ts";
import type { TurnOptions } from "../../extension/turn/request.ts";
import { runTurn } from "../../extension/turn/turn.ts";
import { useOwnHome } from "./own-home.ts";

useOwnHome();

export const DIALECTS = ["openai", "anthropic"] as const;
export type Dialect = (typeof DIALECTS)[number];

export interface Outcome {
  events: AssistantMessageEvent[];
  message: AssistantMessage;
  kinds: string[];
  /** Milliseconds from the start to the terminal event. */
  took: number;
}

export interface TurnSetup {
  baseUrl: string;
  apiKey?: string;
  dialect?: Dialect;
  /** Further environment variables. */
  env?: Record<string, string>;
  options?: TurnOptions;
  context?: unknown;
  /** Id of the model, `kimi-for-coding` if not given. */
  id?: string;
  notices?: Notices;
  /** Called with every event. */
  onEvent?: (event: AssistantMessageEvent) => void;
}

export const QUESTION = { messages: [{ role: "user", content: "hi", timestamp: 1 }] };

export function addon(): Addon {
  const loaded = loadAddon();
  if (loaded.addon === undefined) throw new Error(loaded.problem);
  return loaded.addon;
}

export function model(native: Addon, baseUrl: string, wanted = "kimi-for-coding"): Model<string> {
  const entries = JSON.parse(native.fallbackModels()) as Model<string>[];
  const entry = entries.find(({ id }) => id === wanted) as Model<string>;
  return { ...entry, api: "kimi-code-native", provider: "kimi-coding", baseUrl };
}

/** Runs a turn to the end of its stream. */
export async function runOne(native: Addon, setup: TurnSetup): Promise<Outcome> {
  const stream = createAssistantMessageEventStream();
  const start = performance.now();
  // Turns of these tests are requests that tests count.
  const base = { KIMI_CODE_MODEL_LIST: "off", KIMI_CODE_PROTOCOL: setup.dialect ?? "openai" };
  const env = { ...base, ...setup.options?.env, ...setup.env };
  const options = { apiKey: setup.apiKey ?? "sk-kimi-test", ...setup.options, env };
  const context = (setup.context ?? QUESTION) as never;
  runTurn(native, host("0.87.1"), stream, model(native, setup.baseUrl, setup.id), context, options, setup.notices);
  const events: AssistantMessageEvent[] = [];
  for await (const event of stream) {
    events.push(event);
    setup.onEvent?.(event);
  }
  const took = performance.now() - start;
  return { events, message: await stream.result(), kinds: events.map(({ type }) => type), took };
}

/** The visible text of a message. */
export function visible(message: AssistantMessage): string {
  return message.content.map((block) => (block.type === "text" ? block.text : "")).join("");
}
