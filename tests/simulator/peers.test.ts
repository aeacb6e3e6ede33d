/**
 * Independent clients against the simulator: the SDKs of OpenAI and Anthropic and both of Pi's own implementations. They share no
 * code with us, so what they read is what the simulator's answers say. The official client is in interop.test.ts, because it has
 * to be installed.
 */
import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import Anthropic, * as anthropic from "@anthropic-ai/sdk";
import type { AssistantMessage, Model } from "@earendil-works/pi-ai";
import { streamSimple as streamMessages } from "@earendil-works/pi-ai/api/anthropic-messages";
import { streamSimple as streamCompletions } from "@earendil-works/pi-ai/api/openai-completions";
import { kimiCodingProvider } from "@earendil-works/pi-ai/providers/kimi-coding";
import OpenAI, * as openai from "openai";
import { faults } from "./faults.ts";
import { type Simulator, startSimulator } from "./index.ts";
import { call, text, think } from "./scenario.ts";
import { fakePng } from "../support/sample-media.ts";
import { visible } from "../support/turn.ts";

const AGENT = { "User-Agent": "pi/0.87.1 (linux; node)" };
const ANSWER = {
  steps: [think("Hm."), text("Grüße, 世界 👋🏽", { size: 3 }), call("look", { at: [1, 2] }, { size: 4 })],
};
const LOOK = { type: "object", properties: { at: { type: "array", items: { type: "integer" } } } } as const;

let simulator: Simulator;
before(async () => (simulator = await startSimulator()));
beforeEach(() => simulator.reset());
after(() => simulator.close());

describe("peers: the openai SDK", () => {
  const client = (): OpenAI =>
    new OpenAI({ baseURL: `${simulator.baseUrl}/v1`, apiKey: simulator.apiKey, maxRetries: 0, defaultHeaders: AGENT });
  const tools = [{ type: "function", function: { name: "look", description: "Looks.", parameters: LOOK } }] as const;

  test("streamed answer → assembled, and accepted back with the tool's result", async () => {
    simulator.enqueue(ANSWER, { steps: [text("Seen.")] });
    const messages: OpenAI.ChatCompletionMessageParam[] = [{ role: "user", content: "look" }];
    const shared = { model: "kimi-for-coding", tools: [...tools] };
    const stream = client().chat.completions.stream({ ...shared, messages, stream_options: { include_usage: true } });
    const first = await stream.finalChatCompletion();
    const [choice] = first.choices;
    assert.equal(choice?.finish_reason, "tool_calls");
    assert.equal(choice?.message.content, "Grüße, 世界 👋🏽");
    const [made] = choice?.message.tool_calls ?? [];
    assert.ok(made?.type === "function");
    assert.deepEqual(JSON.parse(made.function.arguments), { at: [1, 2] });
    // The SDK does not know reasoning; a model that thinks must get it back (docs/protocol.md#reasoning-replay).
    const answered = {
      role: "assistant",
      content: choice?.message.content,
      reasoning_content: "Hm.",
      tool_calls: [made],
    };
    messages.push(answered as OpenAI.ChatCompletionMessageParam, {
      role: "tool",
      tool_call_id: made.id,
      content: "a wall",
    });
    const second = await client().chat.completions.create({ ...shared, messages });
    assert.equal(second.choices[0]?.message.content, "Seen.");
    assert.ok((second.usage?.prompt_tokens ?? 0) > (second.usage?.completion_tokens ?? 0));
  });

  test("errors → mapped to the SDK's classes", async () => {
    const ask = (): Promise<unknown> =>
      client().chat.completions.create({ model: "kimi-for-coding", messages: [{ role: "user", content: "hi" }] });
    for (const [name, type] of [
      ["unauthorized", openai.AuthenticationError],
      ["not-agent", openai.PermissionDeniedError],
      ["rate-limit", openai.RateLimitError],
      ["overloaded", openai.InternalServerError],
      ["risk", openai.BadRequestError],
    ] as const) {
      simulator.enqueue(faults[name]);
      await assert.rejects(ask(), type, name);
    }
  });

  test("models and files → listed, uploaded and used in a chat", async () => {
    const models = (await client().models.list()).data.map(({ id }) => id);
    assert.ok(models.includes("kimi-for-coding"));
    const file = await openai.toFile(fakePng(3000), "picture.png", { type: "image/png" });
    const { id } = await client().files.create({ file, purpose: "image" as "vision" });
    simulator.enqueue({ steps: [text("I see.")] });
    const content = [{ type: "image_url", image_url: { url: `ms://${id}` } }] as const;
    const answer = await client().chat.completions.create({
      model: "kimi-for-coding",
      messages: [{ role: "user", content: [...content] }],
    });
    assert.equal(answer.choices[0]?.message.content, "I see.");
  });
});

describe("peers: the Anthropic SDK", () => {
  const client = (): Anthropic =>
    new Anthropic({ baseURL: simulator.baseUrl, apiKey: simulator.apiKey, maxRetries: 0, defaultHeaders: AGENT });
  const tools = [{ name: "look", description: "Looks.", input_schema: LOOK }] as unknown as Anthropic.Tool[];
  const shared = { model: "kimi-for-coding", max_tokens: 8000 };

  test("streamed answer → assembled, and accepted back with the tool's result", async () => {
    simulator.enqueue(ANSWER, { steps: [text("Seen.")] });
    const thinking = { type: "enabled", budget_tokens: 2000 } as const;
    const messages: Anthropic.MessageParam[] = [{ role: "user", content: "look" }];
    const first = await client()
      .messages.stream({ ...shared, thinking, tools, messages })
      .finalMessage();
    assert.equal(first.stop_reason, "tool_use");
    assert.deepEqual(
      first.content.map(({ type }) => type),
      ["thinking", "text", "tool_use"],
    );
    const said = first.content.find((block) => block.type === "text");
    assert.equal(said?.text, "Grüße, 世界 👋🏽");
    const made = first.content.find((block) => block.type === "tool_use");
    assert.deepEqual(made?.input, { at: [1, 2] });
    const result = { type: "tool_result", tool_use_id: made?.id ?? "", content: "a wall" } as const;
    messages.push({ role: "assistant", content: first.content }, { role: "user", content: [result] });
    const second = await client().messages.create({ ...shared, thinking, tools, messages });
    assert.deepEqual(
      second.content.map((block) => (block.type === "text" ? block.text : "")),
      ["Seen."],
    );
    assert.ok(second.usage.input_tokens + (second.usage.cache_read_input_tokens ?? 0) > 0);
  });

  test("errors → mapped to the SDK's classes", async () => {
    const ask = (): Promise<unknown> =>
      client().messages.create({ ...shared, messages: [{ role: "user", content: "hi" }] });
    for (const [name, type] of [
      ["unauthorized", anthropic.AuthenticationError],
      ["not-agent", anthropic.PermissionDeniedError],
      ["rate-limit", anthropic.RateLimitError],
      ["overloaded", anthropic.InternalServerError],
      ["risk", anthropic.BadRequestError],
    ] as const) {
      simulator.enqueue(faults[name]);
      await assert.rejects(ask(), type, name);
    }
  });
});

describe("peers: Pi's own implementations", () => {
  const entry = kimiCodingProvider()
    .getModels()
    .find(({ id }) => id === "kimi-for-coding") as Model<string>;
  const compat = { supportsStore: false, supportsDeveloperRole: false, supportsReasoningEffort: false };
  const completions = { ...entry, api: "openai-completions", compat: { ...compat, maxTokensField: "max_tokens" } };
  const ways = {
    "openai-completions": (context: never, options: object) =>
      streamCompletions(
        { ...completions, baseUrl: `${simulator.baseUrl}/v1` } as Model<"openai-completions">,
        context,
        options,
      ),
    "anthropic-messages": (context: never, options: object) =>
      streamMessages({ ...entry, baseUrl: simulator.baseUrl } as Model<"anthropic-messages">, context, options),
  };

  for (const [name, stream] of Object.entries(ways)) {
    test(`${name}: a tool round trip`, async () => {
      simulator.enqueue(ANSWER, { steps: [think("Now."), text("Seen.")] });
      const tools = [{ name: "look", description: "Looks.", parameters: LOOK }];
      const messages: object[] = [{ role: "user", content: "look", timestamp: 1 }];
      const ask = (): Promise<AssistantMessage> => {
        const options = { apiKey: simulator.apiKey, headers: AGENT, reasoning: "high" };
        return stream({ messages, tools } as never, options).result();
      };
      const first = await ask();
      assert.equal(first.stopReason, "toolUse", first.errorMessage);
      assert.equal(visible(first), "Grüße, 世界 👋🏽");
      const made = first.content.find((block) => block.type === "toolCall");
      assert.deepEqual(made?.arguments, { at: [1, 2] });
      const content = [{ type: "text", text: "a wall" }];
      messages.push(first, {
        role: "toolResult",
        toolCallId: made?.id,
        toolName: "look",
        content,
        isError: false,
        timestamp: 2,
      });
      const second = await ask();
      assert.equal(visible(second), "Seen.", second.errorMessage);
      assert.ok(second.usage.input + second.usage.cacheRead > 0);
    });
  }
});
