// Other model lists: other plans, other times, and lists that a client must not trust.

import type { Json } from "./json.ts";
import { defaultModels } from "./catalog.ts";

export const catalogs = {
  /** A small plan: K3 is missing, the alias thinks on request. */
  smallPlan: (): Json[] => [
    {
      id: "kimi-for-coding",
      display_name: "Kimi For Coding",
      context_length: 262144,
      supports_reasoning: true,
      supports_image_in: true,
      supports_thinking_type: "both",
      think_efforts: { support: true, valid_efforts: ["low", "high"], default_effort: "high" },
    },
  ],
  /** An unknown model, in the other dialect and without image input. */
  nextYear: (): Json[] => [
    ...defaultModels(),
    {
      id: "k4-preview",
      display_name: "K4 Preview",
      context_length: 2097152,
      supports_thinking_type: "no",
      supports_image_in: false,
      protocol: "anthropic",
    },
  ],
  /** Beside one good entry: doubles, control characters, absurd windows, a name of `nameBytes`. */
  hostile: (nameBytes = 10_000): Json[] => [
    { id: "k3", display_name: "K3", context_length: 1048576, supports_thinking_type: "only" },
    { id: "k3", display_name: "K3 again", context_length: 1 },
    { id: "esc\u001B[2J", context_length: 4096 },
    { id: "negative", context_length: -1 },
    { id: "word", context_length: "many" },
    { id: "big-name", context_length: 8192, display_name: `Big\u001B[31m ${"n".repeat(nameBytes)}` },
    null,
    "text",
    { context_length: 4096 },
  ],
};
