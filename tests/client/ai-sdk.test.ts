/** The provider for the AI SDK, driven by the SDK itself: streams, tools, objects, files, errors, aborts. */
import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import { APICallError, type JSONObject } from "@ai-sdk/provider";
import { generateText, isStepCount, jsonSchema, Output, streamText, tool } from "ai";
import { createKimi, type KimiProvider } from "../../extension/ai-sdk.ts";
import type { Simulator } from "../simulator/index.ts";
import { withClientHome } from "../support/client-home.ts";
import { bodyOf } from "../support/pi.ts";
import { fakePng } from "../support/sample-media.ts";
import { answerRequests } from "../support/simulator.ts";

let simulator: Simulator;
let kimi: KimiProvider;
withClientHome((started) => (simulator = started));
beforeEach(() => {
  kimi = createKimi({ baseUrl: simulator.baseUrl, apiKey: simulator.apiKey });
});

interface Body {
  messages: { role: string; content?: unknown; [member: string]: unknown }[];
  [member: string]: unknown;
}
const body = (): Body => bodyOf<Body>(answerRequests(simulator).at(-1));
const chats = (): number => simulator.requests.filter(({ endpoint }) => endpoint === "chat").length;
const model = (): ReturnType<KimiProvider> => kimi("kimi-for-coding");

const weather = tool({
  description: "The weather of a city.",
  inputSchema: jsonSchema<{ city: string }>({
    type: "object",
    properties: { city: { type: "string" } },
    required: ["city"],
    additionalProperties: false,
  }),
  execute: ({ city }) => Promise.resolve({ city, degrees: 21 }),
});

describe("AI SDK", () => {
  test("streamText → text, reasoning, usage, finish reason, metadata", async () => {
    simulator.enqueue({ steps: [{ thinking: "Rayleigh." }, { text: "Air scatters blue.", size: 3 }] });
    const result = streamText({ model: model(), prompt: "Why?", instructions: "Be brief." });
    let text = "";
    for await (const delta of result.textStream) text += delta;
    assert.equal(text, "Air scatters blue.");
    assert.equal(await result.reasoningText, "Rayleigh.");
    assert.equal(await result.finishReason, "stop");
    const usage = await result.usage;
    assert.ok((usage.inputTokens ?? 0) > 0 && (usage.outputTokens ?? 0) > 0);
    assert.equal(usage.inputTokenDetails.cacheReadTokens, 0);
    assert.deepEqual(body().messages[0], { role: "system", content: "Be brief." });
    assert.ok((await result.response).modelId !== "");
  });

  test("generateText with a tool loop → steps, results and reasoning go back", async () => {
    simulator.enqueue(
      { steps: [{ thinking: "I ask." }, { toolCall: { name: "weather", arguments: { city: "Beijing" } } }] },
      { steps: [{ text: "21 °C." }] },
    );
    const result = await generateText({
      model: model(),
      prompt: "Weather?",
      tools: { weather },
      stopWhen: isStepCount(5),
    });
    assert.equal(result.text, "21 °C.");
    assert.equal(result.steps.length, 2);
    const [, assistant, answer] = body().messages;
    assert.equal(assistant?.["reasoning_content"], "I ask.");
    assert.match(JSON.stringify(answer), /21/);
  });

  test("streamText with a tool loop → tool input deltas and results", async () => {
    simulator.enqueue(
      { steps: [{ toolCall: { name: "weather", arguments: { city: "Beijing" } } }] },
      { steps: [{ text: "Sunny." }] },
    );
    const result = streamText({ model: model(), prompt: "Weather?", tools: { weather }, stopWhen: isStepCount(5) });
    const types = new Set<string>();
    for await (const { type } of result.fullStream) types.add(type);
    for (const type of [
      "tool-input-start",
      "tool-input-delta",
      "tool-input-end",
      "tool-call",
      "tool-result",
      "finish",
    ]) {
      assert.ok(types.has(type), type);
    }
    assert.equal(await result.text, "Sunny.");
  });

  test("Output.object → the object; the schema is in the request", async () => {
    simulator.enqueue({ steps: [{ text: '{"city":"Beijing","degrees":21}' }] });
    const schema = jsonSchema<{ city: string; degrees: number }>({
      type: "object",
      properties: { city: { type: "string" }, degrees: { type: "number" } },
      required: ["city", "degrees"],
      additionalProperties: false,
    });
    const { output } = await generateText({ model: model(), prompt: "Weather?", output: Output.object({ schema }) });
    assert.deepEqual(output, { city: "Beijing", degrees: 21 });
    assert.equal((body()["response_format"] as { type: string }).type, "json_schema");
  });

  test("UI message stream → parts of the answer", async () => {
    simulator.enqueue({ steps: [{ thinking: "Hm." }, { text: "Hello." }] });
    const types: string[] = [];
    const stream = streamText({ model: model(), prompt: "hi" }).toUIMessageStream();
    for await (const { type } of stream as unknown as AsyncIterable<{ type: string }>) types.push(type);
    for (const type of ["start", "reasoning-delta", "text-delta", "finish"]) assert.ok(types.includes(type), type);
  });

  test("image → in the request", async () => {
    simulator.enqueue({ steps: [{ text: "Noise." }] });
    const content = [
      { type: "text", text: "What is it?" },
      { type: "file", data: new Uint8Array(fakePng(500, "sdk")), mediaType: "image/png" },
    ] as const;
    await generateText({ model: model(), messages: [{ role: "user", content: [...content] }] });
    assert.match(JSON.stringify(body().messages), /data:image\/png;base64/);
  });

  test("settings that Kimi has not → warnings", async () => {
    simulator.enqueue({ steps: [{ toolCall: { name: "weather", arguments: { city: "Beijing" } } }] });
    const { warnings } = await generateText({
      ...{ model: model(), prompt: "hi", seed: 1, topK: 5, toolChoice: "required", tools: { weather } },
    });
    const told = JSON.stringify(warnings);
    for (const word of ["seed", "topK", "cannot be forced"]) assert.match(told, new RegExp(word));
  });

  test("provider options → options of the chat; unknown ones → warnings", async () => {
    const own = (options: JSONObject, reasoning?: "high"): ReturnType<typeof generateText> =>
      generateText({
        ...{ model: model(), prompt: "hi", providerOptions: { kimi: options } },
        ...(reasoning === undefined ? {} : { reasoning }),
      });
    const { warnings } = await own(
      { sessionId: "s1", thinking: "low", priority: "interactive", onQuota: "stop", sparkle: 1 },
      "high",
    );
    assert.deepEqual([body()["prompt_cache_key"], (body()["thinking"] as { effort: string }).effort], ["s1", "low"]);
    assert.deepEqual(
      warnings?.map((warning) => "feature" in warning && warning.feature),
      ["providerOptions.kimi.sparkle"],
    );
    const code = async (options: JSONObject): Promise<string> => {
      const error: unknown = await own(options).then(
        () => undefined,
        (reason: unknown) => reason,
      );
      assert.ok(APICallError.isInstance(error), String(error));
      return `${(error.data as { code: string }).code} ${error.message}`;
    };
    const before = chats();
    simulator.intercept("chat", { status: 503, body: "busy" });
    assert.match(await code({ maxRetries: 0 }), /^server /);
    simulator.intercept("chat", { hang: "headers" });
    assert.match(await code({ maxRetries: 0, timeoutMs: 200 }), /^timeout /);
    assert.equal(chats() - before, 2);
    for (const name of ["thinking", "priority", "onQuota", "timeoutMs"]) {
      assert.match(await code({ [name]: "sparkle" }), new RegExp(`^bad_request ${name} must be `));
    }
  });

  test("refused key → APICallError that is not retryable, one request", async () => {
    const refused = createKimi({ baseUrl: simulator.baseUrl, apiKey: "sk-wrong" })("k3");
    await assert.rejects(generateText({ model: refused, prompt: "hi" }), (error: unknown) => {
      assert.ok(APICallError.isInstance(error));
      assert.deepEqual([error.statusCode, error.isRetryable], [401, false]);
      assert.equal((error.data as { code: string }).code, "unauthorized");
      return true;
    });
    assert.equal(chats(), 1);
  });

  test("overload that we gave up on → the SDK does not multiply the attempts", async () => {
    const overloaded = { status: 503, headers: { "retry-after-ms": "1" }, body: { error: { message: "overloaded" } } };
    simulator.intercept("chat", ...Array.from({ length: 20 }, () => overloaded));
    const limited = createKimi({
      baseUrl: simulator.baseUrl,
      apiKey: simulator.apiKey,
      settings: { retry: { attempts: 2 } },
    });
    await assert.rejects(generateText({ model: limited("k3"), prompt: "hi" }), APICallError.isInstance);
    assert.equal(chats(), 2);
  });

  test("failure in the middle of a stream → an error part after the text", async () => {
    simulator.enqueue({ steps: [{ text: "Half" }, { cut: "end" }] });
    const seen: string[] = [];
    const result = streamText({ model: model(), prompt: "hi", onError: () => {} });
    for await (const part of result.fullStream) seen.push(part.type);
    assert.ok(seen.includes("text-delta") && seen.includes("error"), seen.join());
  });

  test("abort → the connection closes", async () => {
    simulator.enqueue({
      steps: [{ repeat: { kind: "text", count: 100_000, text: "word ", perSecond: 500 } }],
    } as never);
    const controller = new AbortController();
    const result = streamText({ model: model(), prompt: "hi", abortSignal: controller.signal });
    for await (const part of result.fullStream) if (part.type === "text-delta") controller.abort();
    await simulator.waitForRequest((request) => request.ended === "aborted");
  });

  test("models that Kimi has not → NoSuchModelError", () => {
    assert.throws(() => kimi.embeddingModel("x"), { name: "AI_NoSuchModelError" });
  });
});
