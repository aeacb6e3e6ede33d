/**
 * Breaks the connection at any byte of an answer.
 *
 * The answer has reasoning, text and a tool call, so that a break hits every kind of event, the head, chunk sizes and the end
 * mark.
 */
import { Kimi, KimiError } from "../../index.ts";
import { startSimulator } from "../simulator/index.ts";
import { call, text, think } from "../simulator/scenario.ts";
import type { Dialect } from "../support/turn.ts";
import { answerRequests } from "../support/simulator.ts";
import { Relay, type Breakage } from "./relay.ts";

const THOUGHT = "Let me think. ";
const TEXT = "An answer of some length, ";
const STEPS = [think(THOUGHT), text(TEXT), text("in two parts."), call("look", { at: "the thing", count: 3 })];

/** Short compared to the real timeouts, long compared to a healthy answer on a busy machine. */
const CLOCK_MS = "1500";

/** Text that must arrive exactly once. */
export const WHOLE = {
  thinking: THOUGHT,
  text: `${TEXT}in two parts.`,
  toolCall: '{"at":"the thing","count":3}',
};

export interface Broken {
  /** `answer` or the error's code. */
  outcome: string;
  /** Reasoning, text and arguments that arrived. */
  got: typeof WHOLE;
  requests: number;
  /** Bytes of answers that passed. */
  bytes: number;
}

/** Runs one turn whose first answer breaks; without `breakage`, one that does not. */
export async function brokenAt(dialect: Dialect, home: string, breakage?: Breakage): Promise<Broken> {
  const simulator = await startSimulator({ identityGate: "off" });
  const relay = await Relay.to(simulator.origin);
  simulator.setDefault({ steps: STEPS });
  relay.rule = (_path, ordinal) => (ordinal === 1 ? breakage : undefined);
  const env = {
    HOME: home,
    KIMI_CODE_PROTOCOL: dialect,
    KIMI_CODE_HEADERS_TIMEOUT_MS: CLOCK_MS,
    KIMI_CODE_FIRST_TIMEOUT_MS: CLOCK_MS,
    KIMI_CODE_GAP_TIMEOUT_MS: CLOCK_MS,
    KIMI_CODE_THINKING_GAP_TIMEOUT_MS: CLOCK_MS,
  };
  const chat = new Kimi({ baseUrl: `${relay.origin}/coding`, apiKey: simulator.apiKey, env }).chat({
    messages: [{ role: "user", content: "hi" }],
    tools: [{ name: "look", parameters: { type: "object" } }],
  });
  const got = { thinking: "", text: "", toolCall: "" };
  let outcome = "answer";
  try {
    for await (const event of chat) {
      if (event.type === "thinking_delta") got.thinking += event.delta;
      if (event.type === "text_delta") got.text += event.delta;
      if (event.type === "toolcall_delta") got.toolCall += event.delta;
    }
  } catch (error) {
    outcome = error instanceof KimiError ? error.code : String(error);
  } finally {
    await relay.close();
    await simulator.close();
  }
  return { outcome, got, requests: answerRequests(simulator).length, bytes: relay.bytes };
}
