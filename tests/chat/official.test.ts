/** Compares our bodies with captured ones of the official client 2.1.0, member by member (docs/protocol.md#openai-dialect). */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import type { Model } from "@earendil-works/pi-ai";
import type { Members } from "./parity/canonical.ts";
import { ourBody } from "../support/payload.ts";
import { addon } from "../support/turn.ts";

const captured = JSON.parse(
  readFileSync(new URL("../fixtures/requests/official.json", import.meta.url), "utf8"),
) as Record<string, Members>;

const native = addon();

const FILE =
  "1\thello file\n<system>1 line read from file starting from line 1. Total lines in file: 1. Requested range complete. " +
  "Effective max_chars: 100000. End of file reached.</system>";

/** Pi's record of the captured session. */
function context(name: string, question: string, path: string, reasoning?: Members): unknown {
  const [tool] = (captured[name] ?? {})["tools"] as [Members];
  const definition = (tool["function"] ?? tool) as Members;
  const parameters = definition["parameters"] ?? definition["input_schema"];
  const call = { type: "toolCall", id: "Read:0", name: "Read", arguments: { path } };
  const answer = { role: "assistant", provider: "kimi-coding", stopReason: "toolUse", content: [reasoning, call] };
  const result = { role: "toolResult", toolCallId: "Read:0", content: [{ type: "text", text: FILE }], isError: false };
  return {
    systemPrompt: "Be brief.",
    tools: [{ name: definition["name"], description: definition["description"], parameters }],
    messages: [{ role: "user", content: question }, ...(reasoning ? [answer, result] : [])],
  };
}

async function compare(name: string, id: string, change: object, own: unknown): Promise<void> {
  const entries = JSON.parse(native.fallbackModels()) as Model<string>[];
  const model = {
    ...entries[0],
    id,
    baseUrl: "http://127.0.0.1:9/coding",
    api: "x",
    provider: "kimi-coding",
    ...change,
  };
  const protocol = name.startsWith("messages") ? "anthropic" : "openai";
  const body = await ourBody(native, model as Model<string>, own, {
    reasoning: "high",
    env: { KIMI_CODE_PROTOCOL: protocol },
  });
  const expected = { ...captured[name] };
  const cap = protocol === "anthropic" ? "max_tokens" : "max_completion_tokens";
  assert.equal(typeof body[cap], "number");
  // The rest of the window, which depends on how the prompt is counted.
  expected[cap] = body[cap] as number;
  assert.deepEqual(body, expected);
}

const thinking = { type: "thinking", thinking: "A tool is needed.", thinkingSignature: "reasoning_content" };
/** The captured model list had no efforts for this model. */
const plain = { thinkingLevelMap: { off: null, high: "on" } };

test("official client: a plain turn → same body", () =>
  compare("plain turn", "kimi-for-coding", plain, context("plain turn", "Say hello", "")));

test("official client: a tool turn → same body", () =>
  compare(
    "tool turn",
    "kimi-for-coding",
    plain,
    context("tool turn", "Read the file", "/home/user/project", thinking),
  ));

test("official client: a k3 turn with reasoning details → same body", () => {
  const reasoning = {
    ...thinking,
    thinking: "Plan with summary.",
    reasoningDetails: [
      { index: 0, type: "summary", summary: "Plan with summary." },
      { index: 1, type: "encrypted", encrypted: "UGxhbiB3aXRoIHN1bW1hcnku" },
    ],
  };
  return compare(
    "reasoning details",
    "k3",
    {},
    context("reasoning details", "Read with details", "/home/user/project", reasoning),
  );
});

test("official client, Messages dialect: a plain turn → same body", () =>
  compare("messages, plain turn", "k3-anthropic", {}, context("messages, plain turn", "hello", "")));

test("official client, Messages dialect: a tool turn → same body", () =>
  compare("messages, tool turn", "k3-anthropic", {}, context("messages, tool turn", "read a.txt", "a.txt", thinking)));
