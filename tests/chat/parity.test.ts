/**
 * Encodes the same conversations with Pi's implementations and with ours. Intended differences are listed in docs/architecture.md
 * and removed by parity/canonical.ts; everything else must be equal.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Context, Model } from "@earendil-works/pi-ai";
import { streamSimple as piAnthropic } from "@earendil-works/pi-ai/api/anthropic-messages";
import { streamSimple as piOpenai } from "@earendil-works/pi-ai/api/openai-completions";
import { normalizeContext } from "@earendil-works/pi-ai/utils/transcript";
import {
  anthropic,
  hasLateTools,
  openai,
  withoutLateTools,
  withoutLoneSurrogates,
  type Members,
} from "./parity/canonical.ts";
import { conversation, type Shape } from "./parity/random.ts";
import { ourBody } from "../support/payload.ts";
import { addon } from "../support/turn.ts";

const SHAPES: Shape[] = ["prompt and tools", "system messages"];
const PER_SHAPE = 150;

const common = {
  id: "k3",
  name: "Kimi K3",
  provider: "kimi-coding",
  baseUrl: "http://127.0.0.1:9/coding",
  reasoning: true,
  thinkingLevelMap: { off: null, minimal: null, low: "low", medium: null, high: "high", xhigh: null, max: "max" },
  input: ["text", "image"],
  cost: { input: 3, output: 15, cacheRead: 0.3, cacheWrite: 0 },
  contextWindow: 1_048_576,
  maxTokens: 131_072,
};

/** What Pi 1.5.2 knows of this model (docs/pi-contract.md#model-table). */
const openaiCompat = {
  supportsStrictMode: false,
  supportsStore: false,
  supportsDeveloperRole: false,
  supportsReasoningEffort: true,
  maxTokensField: "max_tokens",
  thinkingFormat: "openai",
  requiresReasoningContentOnAssistantMessages: true,
  supportsMidConvoSystemMessages: true,
  supportsMidConvoToolAdditions: true,
};
/** As in Pi 0.87.1's table. Later system messages stay in place, because ours do. */
const anthropicCompat = {
  forceAdaptiveThinking: true,
  allowEmptySignature: true,
  supportsMidConvoSystemMessages: true,
};

const native = addon();

function model(change: Record<string, unknown>): Model<never> {
  return { ...common, ...change } as unknown as Model<never>;
}

type PiStream = (
  model: Model<never>,
  context: never,
  options: never,
) => { result(): Promise<{ errorMessage?: string }> };

async function piBody(stream: PiStream, own: Model<never>, context: Context): Promise<Members> {
  let caught: unknown;
  const options = {
    apiKey: "no-key",
    reasoning: "high",
    onPayload: (body: unknown) => {
      caught = withoutLoneSurrogates(JSON.parse(JSON.stringify(body)));
      throw new Error("caught");
    },
  };
  const message = await stream(own, normalizeContext(context) as never, options as never).result();
  if (caught === undefined) throw new Error(message.errorMessage);
  return caught as Members;
}

const ours = (context: Context, protocol: string, input = common.input): Promise<Members> =>
  ourBody(native, model({ api: "kimi-code-native", compat: { supportsMidConvoToolAdditions: true }, input }), context, {
    reasoning: "high",
    env: { KIMI_CODE_PROTOCOL: protocol },
  });

for (const [number, shape] of SHAPES.entries()) {
  describe(shape, () => {
    for (const input of [["text", "image"], ["text"]]) {
      test(`parity with Pi's encoder: chat, ${input.join(" and ")}`, async () => {
        const pi = model({ api: "openai-completions", compat: openaiCompat, input });
        const own = { api: "openai-completions", provider: "kimi-coding", model: "k3" };
        for (let seed = 0; seed < PER_SHAPE; seed += 1) {
          const context = conversation(seed + 1000 * number, shape, own, "reasoning_content");
          const theirs = await piBody(piOpenai as unknown as PiStream, pi, context);
          let mine = await ours(context, "openai", input);
          if (!hasLateTools(theirs)) mine = withoutLateTools(mine);
          assert.deepEqual(openai(mine), openai(theirs), `seed ${seed}`);
        }
      });
    }
    test("parity with Pi's encoder: messages", async () => {
      const pi = model({ api: "anthropic-messages", compat: anthropicCompat });
      const own = { api: "anthropic-messages", provider: "kimi-coding", model: "k3" };
      for (let seed = 0; seed < PER_SHAPE; seed += 1) {
        const context = conversation(seed + 1000 * number, shape, own, seed % 3 === 0 ? "c2lnbmVk" : "");
        const theirs = await piBody(piAnthropic as unknown as PiStream, pi, context);
        const mine = await ours(context, "anthropic");
        assert.deepEqual(anthropic(mine), anthropic(theirs), `seed ${seed}`);
      }
    });
  });
}
