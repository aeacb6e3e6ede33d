/** Long texts of a conversation cross beside its JSON: nothing of the request may change. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { contextText } from "../../extension/turn/context.ts";
import { type Simulator, startSimulator } from "../simulator/index.ts";
import { addon, runOne } from "../support/turn.ts";

const LONG = "x".repeat(500);

/** Texts that JSON or UTF-16 treats in its own way, each of them long. */
const TEXTS = [
  `${LONG}"quoted" \\ back\n\r\t\b\f\u0001\u007f\u2028`,
  `${LONG}世界 ü 😀`,
  `${LONG}\u0000mark:0 {"a":1}`,
  "\\".repeat(500),
  "😀".repeat(250),
];

/** Puts the texts in their places, as the addon does. */
function whole(context: object): string {
  const { text, mark, pieces } = contextText(context);
  return JSON.stringify(
    JSON.parse(text, (_name, value: unknown) => {
      const number = typeof value === "string" && value.startsWith(`${mark}:`) ? value.slice(mark.length + 1) : "";
      return number === "" ? value : pieces[Number(number)];
    }),
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
    { role: "toolResult", content: [{ type: "text", text: LONG }], details: { toJSON: () => "short" } },
    { role: "user", toJSON: () => ({ role: "user", content: "another" }), content: LONG },
    { role: "user" },
    null,
  ];
  const context = { systemPrompt: LONG, tools: [{ name: "t", description: LONG }], messages };
  assert.equal(whole(context), JSON.stringify(context));
  assert.ok(contextText(context).pieces.length >= 8, "they lie beside it");
  assert.deepEqual(contextText({ messages: [{ role: "user", content: "hi" }] }).pieces, []);
});

test("context: of the usage of earlier answers the addon gets what it reads", () => {
  const usage = { input: 1, totalTokens: 7, cost: { total: 0.1 } };
  const { text } = contextText({ messages: [{ role: "assistant", content: [], usage }] });
  assert.deepEqual(JSON.parse(text), { messages: [{ role: "assistant", content: [], usage: { totalTokens: 7 } }] });
});

test("context: what was passed is not changed", () => {
  const content = [{ type: "text", text: LONG }];
  const context = {
    systemPrompt: LONG,
    messages: [Object.freeze({ role: "user", content: Object.freeze(content), usage: Object.freeze({}) })],
  };
  const before = JSON.stringify(context);
  contextText(context);
  assert.equal(JSON.stringify(context), before);
});

let simulator: Simulator;

before(async () => {
  simulator = await startSimulator();
});
after(() => simulator.close());

/** Returns the body of the last request for an answer. */
function lastBody(): string {
  const answered = simulator.requests.filter(({ endpoint }) => endpoint === "chat" || endpoint === "messages");
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
      assert.ok(body.includes(JSON.stringify(text).slice(1, -1)), JSON.stringify(text).slice(-40));
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
