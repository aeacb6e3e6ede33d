/** Long texts of a conversation cross beside its JSON: nothing of the request may change. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { encodeContext } from "../../extension/turn/context.ts";
import { type Simulator, startSimulator } from "../simulator/index.ts";
import { addon, runOne } from "../support/turn.ts";
import { answerRequests } from "../support/simulator.ts";

const LONG = "x".repeat(500);

/** Texts that JSON or UTF-16 treats in its own way, each of them long. */
const TEXTS = [
  `${LONG}"quoted" \\ back\n\r\t\b\f\u0001\u007f\u2028`,
  `${LONG}世界 ü 😀`,
  `${LONG}\u0000mark:0 {"a":1}`,
  "\\".repeat(500),
  "😀".repeat(250),
];

/** Returns the JSON, and the texts beside it. */
function decoded(context: object): { mark: string; json: string; texts: string[] } {
  const { mark, lengths, texts } = encodeContext(context);
  assert.deepEqual(
    [...lengths].map(Math.abs),
    texts.map(({ length }) => length),
  );
  for (const [number, text] of texts.entries())
    assert.ok((lengths[number] as number) < 0 || !/[^\0-\xff]/.test(text), "one byte per character is enough");
  return { mark, json: texts.at(-1) ?? "", texts: texts.slice(0, -1) };
}

/** Puts the texts in their places, as the addon does. */
function whole(context: object): string {
  const { mark, json, texts } = decoded(context);
  return JSON.stringify(
    JSON.parse(json, (_name, value: unknown) =>
      typeof value === "string" && value.startsWith(mark) ? texts[Number(value.slice(mark.length))] : value,
    ),
  );
}

test("context: texts beside the JSON → the same JSON as without", () => {
  const messages = [
    { role: "user", content: LONG },
    { role: "user", content: [{ type: "text", text: LONG }, null, "short", LONG, { type: "image", media: 0 }] },
    {
      role: "assistant",
      content: [
        { type: "thinking", thinking: LONG, thinkingSignature: LONG },
        {
          type: "toolCall",
          id: "a",
          name: "write",
          arguments: { path: "a", content: LONG, list: [LONG], [LONG]: LONG },
        },
        { type: "toolCall", id: "b", name: "write", arguments: [LONG] },
        { type: "toolCall", id: "c", name: "write", arguments: JSON.parse(`{"__proto__":"${LONG}","a":"${LONG}"}`) },
      ],
    },
    { role: "toolResult", content: [{ type: "text", text: LONG }] },
    { role: "user", toJSON: () => ({ role: "user", content: "another" }), content: LONG },
    { role: "user" },
    null,
  ];
  const context = { systemPrompt: LONG, tools: [{ name: "t", description: LONG }], messages };
  assert.deepEqual(JSON.parse(whole(context)), JSON.parse(JSON.stringify(context)));
  assert.ok(decoded(context).texts.length >= 8, "they lie beside it");
  assert.deepEqual(decoded({ messages: [{ role: "user", content: "hi" }] }).texts, []);
});

test("context: texts of every width, in every order → the same JSON as without", () => {
  const widths = [LONG, `${LONG}ü`, `${LONG}世界`, `${LONG}\ud83d`, `\ude00${LONG}`];
  const orders = widths.flatMap((first) => widths.map((second) => [first, second, "short ü", "short 世"]));
  for (const texts of orders) {
    const context = { messages: texts.map((content) => ({ role: "user", content })) };
    assert.equal(whole(context), JSON.stringify(context));
  }
});

test("context: a message is written with what the addon reads of it", () => {
  const media = { kimiMedia: { kind: "image" } };
  const result = { role: "toolResult", content: [], toolCallId: "a", toolName: "t", isError: false };
  const messages = [
    { role: "user", content: "hi", timestamp: 1 },
    {
      role: "assistant",
      content: [],
      provider: "p",
      stopReason: "stop",
      usage: { input: 1, totalTokens: 7, cost: { total: 0.1 } },
      model: "m",
    },
    { ...result, details: { diff: LONG } },
    { ...result, details: media },
    { role: "system", content: "s", sections: { a: "b" }, toolsAdded: [], another: 1 },
  ];
  const { json, texts } = decoded({ messages });
  assert.deepEqual(texts, []);
  assert.deepEqual(JSON.parse(json), {
    messages: [
      { role: "user", content: "hi" },
      { role: "assistant", content: [], provider: "p", stopReason: "stop", usage: { totalTokens: 7 } },
      result,
      { ...result, details: media },
      messages[4],
    ],
  });
});

test("context: what was passed is not changed", () => {
  const content = [{ type: "text", text: LONG }];
  const context = {
    systemPrompt: LONG,
    messages: [Object.freeze({ role: "user", content: Object.freeze(content), usage: Object.freeze({}) })],
  };
  const before = JSON.stringify(context);
  encodeContext(context);
  assert.equal(JSON.stringify(context), before);
});

let simulator: Simulator;

before(async () => {
  simulator = await startSimulator();
});
after(() => simulator.close());

/** Returns the body of the last request for an answer. */
function lastBody(): string {
  const answered = answerRequests(simulator);
  return JSON.stringify(answered.at(-1)?.json);
}

for (const dialect of ["openai", "anthropic"] as const) {
  test(`context: long texts of every kind arrive as they are, ${dialect}`, async () => {
    simulator.setDefault({ steps: [{ text: "ok" }] });
    const [system = "", ...texts] = TEXTS;
    const messages = texts.map((text, at) => ({ role: "user", content: [{ type: "text", text }], timestamp: at }));
    const { baseUrl, apiKey } = simulator;
    const context = { systemPrompt: system, messages };
    const { message } = await runOne(addon(), { baseUrl, apiKey, dialect, context });
    assert.equal(message.errorMessage, undefined);
    const body = lastBody();
    for (const text of TEXTS)
      assert.equal(body.split(JSON.stringify(text).slice(1, -1)).length, 2, `once: ${JSON.stringify(text).slice(-40)}`);
  });
}

for (const dialect of ["openai", "anthropic"] as const) {
  test(`context: long texts of answers, calls and results arrive in their places, ${dialect}`, async () => {
    simulator.setDefault({ steps: [{ text: "ok" }] });
    const { baseUrl, apiKey } = simulator;
    const [system, thinking, said, path, content, result] = ["s", "r", "t", "p", 'c"\\\n世', "o"].map(
      (start) => `${start}${LONG}${start}`,
    );
    const args = { path, content, short: "a" };
    const answer = { role: "assistant", provider: "kimi-coding", stopReason: "toolUse", timestamp: 1 };
    const messages = [
      { role: "user", content: "begin", timestamp: 1 },
      {
        ...answer,
        content: [
          { type: "thinking", thinking, thinkingSignature: dialect === "openai" ? "reasoning_content" : "sig" },
          { type: "text", text: said },
          { type: "toolCall", id: "a", name: "write", arguments: args },
        ],
      },
      {
        role: "toolResult",
        toolCallId: "a",
        toolName: "write",
        content: [{ type: "text", text: result }],
        isError: false,
      },
    ];
    const parameters = { type: "object", properties: { path: { type: "string" } } };
    const tools = [{ name: "write", description: "Writes", parameters }];
    const context = { systemPrompt: system, tools, messages };
    const { message } = await runOne(addon(), { baseUrl, apiKey, dialect, context });
    assert.equal(message.errorMessage, undefined);
    const body = JSON.parse(lastBody()) as { system: { text: string }[]; messages: Record<string, never>[] };
    if (dialect === "openai") {
      const [first, , sent, output] = body.messages as unknown as Record<string, unknown>[];
      assert.equal(first?.["content"], system);
      assert.equal(sent?.["reasoning_content"], thinking);
      assert.equal(sent?.["content"], said);
      const [call] = (sent?.["tool_calls"] ?? []) as { function: { arguments: string } }[];
      assert.equal(call?.function.arguments, JSON.stringify(args));
      assert.equal(output?.["content"], result);
    } else {
      assert.equal(body.system[0]?.text, system);
      const [, sent, output] = body.messages as unknown as { content: Record<string, unknown>[] }[];
      assert.deepEqual(
        sent?.content.map((block) => block["thinking"] ?? block["text"] ?? block["input"]),
        [thinking, said, args],
      );
      assert.ok(JSON.stringify(output?.content).includes(JSON.stringify(result)));
    }
  });
}

test("context: halves of surrogate pairs are left out of long texts as of short ones", async () => {
  simulator.setDefault({ steps: [{ text: "ok" }] });
  const { baseUrl, apiKey } = simulator;
  const odd = "a\ud83db\ude00\ud83d\ud83d\ude00";
  const messages = [odd, LONG + odd].map((content) => ({ role: "user", content, timestamp: 1 }));
  await runOne(addon(), { baseUrl, apiKey, dialect: "openai", context: { messages } });
  const body = lastBody();
  assert.ok(body.includes(`ab😀`) && body.includes(`${LONG}ab😀`), body.slice(-200));
});
