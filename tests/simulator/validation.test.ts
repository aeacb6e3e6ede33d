// What the service refuses and accepts, in both dialects (docs/protocol.md#chat-body, docs/protocol.md#messages-body,
// docs/protocol.md#error-bodies).

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Simulator } from "./index.ts";
import type { JsonObject } from "./json.ts";
import { chat, messages } from "./testing.ts";
import { withSimulator } from "../support/simulator.ts";

let simulator: Simulator;
withSimulator((given) => (simulator = given), { fileReferences: "any" });

const user = (content: JsonObject["x"] = "hi"): JsonObject => ({ role: "user", content: content ?? null });
const called = (change: JsonObject = {}, id = "read:0"): JsonObject => ({
  role: "assistant",
  reasoning_content: "",
  tool_calls: [{ id, type: "function", function: { name: "read", arguments: "{}" } }],
  ...change,
});
const result = (change: JsonObject = {}): JsonObject => ({
  role: "tool",
  tool_call_id: "read:0",
  content: "x",
  ...change,
});
const turn = (...list: JsonObject[]): JsonObject => ({ messages: list });
const keepAll = { thinking: { type: "enabled", keep: "all" } };
const fn = (name: string, parameters: JsonObject = { type: "object", properties: {} }): JsonObject => ({
  type: "function",
  function: { name, description: "d", parameters },
});
const typed = { type: "string" };
const png = "data:image/png;base64,iVBORw0KGgo=";

type Case = [name: string, change: JsonObject, text: string | undefined, type?: string];

async function expectAnswer(send: typeof chat, [, change, text]: Case, wrapped: boolean): Promise<void> {
  const response = await send(simulator, change);
  if (text === undefined) {
    const answer = await response.text();
    assert.equal(response.status, 200, answer);
    return;
  }
  assert.equal(response.status, 400);
  const body = (await response.json()) as { type?: string; error: { message: string; type: string } };
  assert.equal(body.error.message, text);
  assert.equal(body.error.type, "invalid_request_error");
  assert.equal(body.type, wrapped ? "error" : undefined);
  assert.equal(simulator.requests.at(-1)?.error, text);
}

describe("simulator validation, chat completions: refused", () => {
  const missing = "thinking is enabled but reasoning_content is missing in assistant";
  const unanswered =
    "an assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. " +
    "The following tool_call_ids did not have response messages: read:0";
  const cases: Case[] = [
    ["no messages", turn(), "Invalid request: messages must not be empty"],
    ["no model", { model: "" }, "Invalid request: model is required"],
    [
      "role developer",
      turn({ role: "developer", content: "x" }, user()),
      "Invalid request: the message at position 0 has an unsupported role: ROLE_UNSPECIFIED",
    ],
    ["call beside empty text", turn(user(), called({ content: "" }), result()), "text content is empty"],
    ["call beside blank text", turn(user(), called({ content: " \n" }), result()), "text content is empty"],
    ["call beside no parts", turn(user(), called({ content: [] }), result()), "text content is empty"],
    [
      "call beside an empty part",
      turn(user(), called({ content: [{ type: "text", text: "" }] }), result()),
      "text content is empty",
    ],
    ["empty text part", turn(user([{ type: "text", text: "" }])), "text content is empty"],
    ["empty user", turn(user("")), "the message at position 0 with role 'user' must not be empty"],
    [
      "empty system",
      turn({ role: "system" }, user()),
      "the message at position 0 with role 'system' must not be empty",
    ],
    [
      "empty assistant",
      turn(user(), { role: "assistant", content: "", reasoning_content: "" }, user()),
      "the message at position 1 with role 'assistant' must not be empty",
    ],
    [
      "reasoning without content",
      turn(user(), { role: "assistant", reasoning_content: "thought" }, user()),
      "the message at position 1 with role 'assistant' must not be empty",
    ],
    [
      "call without reasoning",
      turn(user(), called({ reasoning_content: null }), result()),
      `${missing} tool call message at index 1`,
    ],
    [
      "keep all without reasoning",
      { ...turn(user(), { role: "assistant", content: "x" }, user()), ...keepAll },
      `${missing} message at index 1`,
    ],
    [
      "indexed reasoning details",
      turn(user(), called({ reasoning_details: [{ index: 0, type: "summary", summary: "s" }] }), result()),
      "Invalid request: reasoning_details.index is not allowed",
    ],
    ["call without result", turn(user(), called(), user()), unanswered],
    ["call at the end", turn(user(), called()), unanswered],
    ["user between call and result", turn(user(), called(), user(), result()), unanswered],
    ["result without call", turn(user(), result()), "tool_call_id read:0 is not found"],
    ["result twice", turn(user(), called(), result(), result()), "tool_call_id read:0 is not found"],
    ["empty id", turn(user(), called({}, ""), result({ tool_call_id: "" })), "tool_call_id  is not found"],
    [
      "arguments as object",
      turn(user(), called({ tool_calls: [{ id: "a", type: "function", function: { name: "r", arguments: {} } }] })),
      "Invalid request: function.arguments must be a string",
    ],
    [
      "reasoning_effort null",
      { reasoning_effort: null },
      "Invalid request: the `reasoning_effort` field in the request (expected type string) is illegal, " +
        "and null is not acceptable",
    ],
    [
      "tool_choice required",
      { tool_choice: "required" },
      "tool_choice 'required' is incompatible with thinking enabled",
    ],
    [
      "tool_choice by name",
      { tool_choice: { type: "function", function: { name: "read" } } },
      "tool_choice 'specified' is incompatible with thinking enabled",
    ],
    ["temperature", { temperature: 0.6 }, "invalid temperature: only 1 is allowed for this model"],
    ["top_p", { top_p: 1 }, "invalid top_p: only 0.95 is allowed for this model"],
    ["no output", { max_completion_tokens: 0 }, "Invalid request: max_completion_tokens must be a positive integer"],
    [
      "thinking off on a model that only thinks",
      { thinking: { type: "disabled" } },
      "invalid thinking: only type=enabled is allowed for this model",
    ],
    [
      "thinking of the other dialect",
      { thinking: { type: "adaptive" } },
      "Invalid request: thinking.type must be one of enabled, disabled",
    ],
    [
      "effort that is not advertised",
      { model: "k3", thinking: { type: "enabled", effort: "medium" } },
      'Invalid request: invalid thinking effort "medium", expected one of low, high, max',
    ],
    [
      "tool name with a digit first",
      { tools: [fn("21st")] },
      "function name is invalid, must start with a letter and can contain letters, numbers, underscores, and dashes",
    ],
    ["tool name twice", { tools: [fn("a"), fn("a")] }, "Invalid request: function name a is duplicated"],
    [
      "built-in with an ordinary name",
      { tools: [{ type: "builtin_function", function: { name: "web" } }] },
      "Invalid request: builtin_function name must start with $",
    ],
    [
      "untyped property",
      { tools: [fn("a", { type: "object", properties: { p: { description: "d" } } })] },
      "tools.function.parameters is not a valid moonshot flavored json schema, " +
        "details: <At path 'properties.p': type is not defined>",
    ],
    [
      "untyped property in a tool added later",
      turn(user(), { role: "system", tools: [fn("a", { type: "object", properties: { p: {} } })] }, user()),
      "tools.function.parameters is not a valid moonshot flavored json schema, " +
        "details: <At path 'properties.p': type is not defined>",
    ],
    [
      "parameters without a type",
      { tools: [fn("a", {})] },
      'Invalid request: tools.function.parameters.type is required and must be "object"',
    ],
    [
      "more than 15 000 bytes of parameters",
      { tools: [fn("a", { type: "object", properties: { p: { ...typed, description: "x".repeat(15_000) } } })] },
      "tools.function.parameters is not a valid moonshot flavored json schema, " +
        "details: <At path 'root': schema exceeds maximum allowed size>",
    ],
    [
      "unknown part",
      turn(user([{ type: "input_text", text: "x" }])),
      "Invalid request: unsupported content part type 'input_text'",
    ],
    [
      "image of a strange type",
      turn(user([{ type: "image_url", image_url: { url: "data:image/tiff;base64,AAAA" } }])),
      "Invalid request: unsupported image format",
    ],
    [
      "image that is no base64",
      turn(user([{ type: "image_url", image_url: { url: "data:image/png;base64,!!" } }])),
      "Invalid request: failed to decode image",
    ],
    [
      "video for a model without",
      { model: "k3-256k", ...turn(user([{ type: "video_url", video_url: { url: "ms://v1" } }])) },
      "Invalid request: model k3-256k does not support video input",
    ],
  ];
  for (const one of cases) test(one[0], () => expectAnswer(chat, one, false));
});

describe("simulator validation, chat completions: accepted", () => {
  const cases: Case[] = [
    ["content null beside a call", turn(user(), called({ content: null }), result()), undefined],
    ["no content beside a call", turn(user(), called(), result()), undefined],
    ["whitespace without a call", turn(user(), { role: "assistant", content: " " }, user()), undefined],
    [
      "reasoning with empty content",
      { ...turn(user(), { role: "assistant", content: "", reasoning_content: "t" }, user()), ...keepAll },
      undefined,
    ],
    ["empty reasoning", { ...turn(user(), called(), result()), ...keepAll }, undefined],
    ["no reasoning without keep", turn(user(), { role: "assistant", content: "x" }, user()), undefined],
    [
      "parallel calls answered in another order",
      turn(
        user(),
        called({
          tool_calls: ["a", "b"].map((id) => ({ id, type: "function", function: { name: "r", arguments: "{" } })),
        }),
        result({ tool_call_id: "b" }),
        result({ tool_call_id: "a", content: "" }),
      ),
      undefined,
    ],
    ["the same id in two turns", turn(user(), called(), result(), called(), result()), undefined],
    [
      "reasoning details without index",
      turn(user(), called({ reasoning_details: [{ type: "summary", summary: "s" }] }), result()),
      undefined,
    ],
    [
      "images everywhere",
      turn(
        user([
          { type: "image_url", image_url: { url: png } },
          { type: "image_url", image_url: "ms://abc" },
        ]),
        called(),
        result({
          content: [
            { type: "text", text: "x" },
            { type: "image_url", image_url: { url: png, id: null } },
          ],
        }),
      ),
      undefined,
    ],
    ["video", turn(user([{ type: "video_url", video_url: { url: "ms://v1", id: "v1" } }])), undefined],
    ["tools added later", turn(user(), { role: "system", tools: [fn("late")] }, user()), undefined],
    ["built-in tool", { tools: [{ type: "builtin_function", function: { name: "$web_search" } }] }, undefined],
    ["tool without parameters", { tools: [{ type: "function", function: { name: "a" } }] }, undefined],
    ["no tools as a list", { tools: [] }, undefined],
    ["tool_choice auto", { tool_choice: "auto" }, undefined],
    ["tool_choice as object", { tool_choice: { type: "auto" } }, undefined],
    ["the model's own sampling", { temperature: 1, top_p: 0.95, n: 1 }, undefined],
    ["reasoning_effort as text", { reasoning_effort: "high" }, undefined],
    ["leftovers of SDK layers", { store: false, metadata: {}, extra_body: { thinking: {} } }, undefined],
    ["effort where none is advertised", { thinking: { type: "enabled", effort: "high" } }, undefined],
    ["advertised effort", { model: "k3", thinking: { type: "enabled", effort: "max", keep: "all" } }, undefined],
    ["the whole window as cap", { max_completion_tokens: 262144 }, undefined],
  ];
  for (const one of cases) test(one[0], () => expectAnswer(chat, one, false));

  test("thinking off → the history needs no reasoning", async () => {
    simulator.catalog.models = [{ id: "kimi-for-coding", context_length: 9000, supports_thinking_type: "both" }];
    const history = turn(user(), called({ reasoning_content: null }), result());
    const off: JsonObject = { ...history, thinking: { type: "disabled" }, tool_choice: "required" };
    await expectAnswer(chat, ["off", off, undefined], false);
  });

  test("validation off → anything is accepted", async () => {
    simulator.settings.validation = false;
    await expectAnswer(chat, ["off", { reasoning_effort: null, tools: [fn("1", {})] }, undefined], false);
  });

  test("newer size limit → larger schemas are accepted", async () => {
    const tools = [fn("a", { type: "object", properties: { p: { ...typed, description: "x".repeat(15_000) } } })];
    simulator.settings.toolSchemaLimitBytes = 120_000;
    await expectAnswer(chat, ["large", { tools }, undefined], false);
  });
});

const thought = { type: "thinking", thinking: "A tool is needed." };
const use = { type: "tool_use", id: "read_0", name: "read", input: { path: "a" } };
const used = (...blocks: JsonObject[]): JsonObject => ({ role: "assistant", content: blocks });
const answered = (change: JsonObject = {}, ...rest: JsonObject[]): JsonObject => ({
  role: "user",
  content: [{ type: "tool_result", tool_use_id: "read_0", content: "x", ...change }, ...rest],
});
const on = { thinking: { type: "enabled" } };

describe("simulator validation, messages: refused", () => {
  const cases: Case[] = [
    ["stream_options", { stream_options: { include_usage: true } }, "Invalid request: unknown field stream_options"],
    ["the other cap", { max_completion_tokens: 5 }, "Invalid request: unknown field max_completion_tokens"],
    [
      "role system in the history",
      turn({ role: "system", content: "x" }, user()),
      "Invalid request: the message at position 0 has an unsupported role: ROLE_UNSPECIFIED",
    ],
    ["empty text block", turn(user([{ type: "text", text: "" }])), "text content is empty"],
    [
      "empty text in a result",
      turn(user(), used(use), answered({ content: [{ type: "text", text: "" }] })),
      "text content is empty",
    ],
    [
      "empty assistant",
      turn(user(), used(), user()),
      "the message at position 1 with role 'assistant' must not be empty",
    ],
    [
      "result without content",
      turn(user(), used(use), { role: "user", content: [{ type: "tool_result", tool_use_id: "read_0" }] }),
      "Invalid request Error",
    ],
    [
      "call without thought",
      { ...turn(user(), used(use), answered()), ...on },
      "thinking is enabled but reasoning_content is missing in assistant tool call message at index 1",
    ],
    [
      "results in two messages",
      turn(user(), used(use, { ...use, id: "b" }), answered(), answered({ tool_use_id: "b" })),
      "an assistant message with 'tool_calls' must be followed by tool messages responding to each " +
        "'tool_call_id'. The following tool_call_ids did not have response messages: b",
    ],
    ["result without call", turn(user(), answered()), "tool_call_id read_0 is not found"],
    [
      "input as text",
      turn(user(), used({ ...use, input: "{}" }), answered()),
      "Invalid request: tool_use.input must be an object",
    ],
    [
      "tool_choice any",
      { ...on, tool_choice: { type: "any" } },
      "tool_choice 'required' is incompatible with thinking enabled",
    ],
    [
      "tool_choice by name",
      { ...on, tool_choice: { type: "tool", name: "read" } },
      "tool_choice 'specified' is incompatible with thinking enabled",
    ],
    [
      "thinking off on a model that only thinks",
      { thinking: { type: "disabled" } },
      "invalid thinking: only type=enabled is allowed for this model",
    ],
    [
      "effort that is not advertised",
      { model: "k3", ...on, output_config: { effort: "xhigh" } },
      'Invalid request: invalid thinking effort "xhigh", expected one of low, high, max',
    ],
    [
      "untyped property",
      { tools: [{ name: "a", input_schema: { type: "object", properties: { p: { enum: ["x"] } } } }] },
      "tools.function.parameters is not a valid moonshot flavored json schema, " +
        "details: <At path 'properties.p': type is not defined>",
    ],
    [
      "image of a strange type",
      turn(user([{ type: "image", source: { type: "base64", media_type: "image/tiff", data: "AAAA" } }])),
      "Invalid request: unsupported image format",
    ],
  ];
  for (const one of cases) test(one[0], () => expectAnswer(messages, one, true));

  test("no max_tokens", async () => {
    const response = await messages(simulator, { max_tokens: undefined });
    assert.match(await response.text(), /max_tokens is required/);
  });
});

describe("simulator validation, messages: accepted", () => {
  const image = { type: "image", source: { type: "base64", media_type: "image/png", data: "iVBORw0KGgo=" } };
  const cases: Case[] = [
    ["unsigned thought", { ...turn(user(), used(thought, use), answered()), ...on }, undefined],
    ["empty signature", { ...turn(user(), used({ ...thought, signature: "" }, use), answered()), ...on }, undefined],
    ["no thought while thinking is off", turn(user(), used(use), answered()), undefined],
    ["empty result", turn(user(), used(use), answered({ content: "" })), undefined],
    ["empty result list", turn(user(), used(use), answered({ content: [] })), undefined],
    ["text after the results", turn(user(), used(use), answered({}, { type: "text", text: "go on" })), undefined],
    ["image in a result", turn(user(), used(use), answered({ content: [image], is_error: false })), undefined],
    [
      "uploaded media",
      turn(
        user([
          { type: "image", source: { type: "url", url: "ms://a" } },
          { type: "video", source: { type: "url", url: "ms://b" } },
        ]),
      ),
      undefined,
    ],
    [
      "the official client's extras",
      {
        ...on,
        output_config: { effort: "high" },
        metadata: { user_id: "s" },
        context_management: { edits: [{ type: "clear_thinking_20251015", keep: "all" }] },
        system: [{ type: "text", text: "s", cache_control: { type: "ephemeral" } }],
      },
      undefined,
    ],
    ["adaptive thinking", { thinking: { type: "adaptive", display: "summarized" }, prompt_cache_key: "k" }, undefined],
    ["budget thinking", { thinking: { type: "enabled", budget_tokens: 1000 } }, undefined],
    ["tool_choice any without thinking", { tool_choice: { type: "any" } }, undefined],
    [
      "tools with markers",
      {
        tools: [
          {
            name: "a",
            eager_input_streaming: true,
            input_schema: { type: "object", properties: {} },
            cache_control: { type: "ephemeral" },
          },
        ],
      },
      undefined,
    ],
  ];
  for (const one of cases) test(one[0], () => expectAnswer(messages, one, true));
});
