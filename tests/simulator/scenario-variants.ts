// Scenarios beyond the transcripts: shapes that newer sources describe (docs/protocol.md#reasoning-details,
// docs/protocol.md#chat-events) and that the transcripts do not contain.

import type { JsonObject } from "./json.ts";
import type { Scenario } from "./types.ts";

function delta(change: JsonObject, reason: string | null = null): JsonObject {
  return {
    id: "chatcmpl-variant",
    object: "chat.completion.chunk",
    created: 1768994256,
    model: "k3",
    choices: [{ index: 0, delta: change, finish_reason: reason }],
  };
}

export const openAIScenarios = {
  /** Reasoning as entries with summary and encrypted form, next to `reasoning_content` (docs/protocol.md#reasoning-details). */
  "reasoning-details": {
    name: "reasoning-details",
    steps: [
      { chunk: delta({ role: "assistant", content: "" }) },
      { chunk: delta({ reasoning_content: "Plan with summary." }) },
      { chunk: delta({ reasoning_details: [{ index: 0, type: "summary", summary: "Plan with summary." }] }) },
      {
        chunk: delta({
          reasoning_details: [{ index: 1, type: "encrypted", encrypted: "UGxhbiB3aXRoIHN1bW1hcnku" }],
        }),
      },
      { text: "Summarised." },
      { finish: "stop" },
    ],
  },
  /** An answer stopped by the content filter. */
  filtered: { name: "filtered", steps: [{ text: "I can" }, { finish: "content_filter" }] },
  /** `finish_reason` of the unknown kind. */
  "odd-finish": { name: "odd-finish", steps: [{ text: "Done." }, { finish: "network_error" }] },
  /** A clean end without any finish. */
  unfinished: { name: "unfinished", steps: [{ text: "Half a sen" }, { cut: "end" }] },
} satisfies Record<string, Scenario>;
