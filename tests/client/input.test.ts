/** What a Node program passes to the client: wrong values are refused by name, before anything is sent. */
import assert from "node:assert/strict";
import { createContext, runInContext } from "node:vm";
import { beforeEach, describe, test } from "node:test";
import { Kimi, KimiError } from "../../index.ts";
import type { Simulator } from "../simulator/index.ts";
import { withClientHome } from "../support/client-home.ts";
import { bodyOf } from "../support/pi.ts";
import { answerRequests } from "../support/simulator.ts";

let simulator: Simulator;
let kimi: Kimi;
withClientHome((started) => (simulator = started));
beforeEach(() => {
  kimi = new Kimi({ baseUrl: simulator.baseUrl, apiKey: simulator.apiKey });
});

/** Words that must not reach a program: they speak of our insides. */
const INSIDES =
  /\[object Object\]|'in' operator|expected .* at line|invalid type|napi|serde|undefined is not|Cannot read prop/i;

/** The error of a call that throws or rejects. */
async function refusal(call: () => unknown): Promise<KimiError> {
  try {
    await call();
  } catch (error) {
    assert.ok(error instanceof KimiError, `a KimiError, not ${String(error)}`);
    assert.doesNotMatch(error.message, INSIDES);
    return error;
  }
  throw new assert.AssertionError({ message: "nothing was refused" });
}

const user = (content: unknown): unknown[] => [{ role: "user", content }];
const circular: Record<string, unknown> = {};
circular["self"] = circular;

describe("chat: wrong input → an error that names the member", () => {
  const cases: [what: string, input: unknown, options: unknown, text: RegExp][] = [
    ["null", null, {}, /^the input of a chat must be a string, an array or an object, not null$/],
    ["a number", 7, {}, /not the number 7$/],
    ["a function", () => {}, {}, /not a function$/],
    ["no messages", {}, {}, /^messages must be an array, not undefined$/],
    ["messages as text", { messages: "hi" }, {}, /^messages must be an array, not a string$/],
    ["null as options", "hi", null, /must be an object, not null$/],
    ["text as options", "hi", "k3", /must be an object, not a string$/],
    ["a null message", [null], {}, /^message 0: a message must be an object, not null$/],
    ["text as a message", ["hi"], {}, /^message 0: a message must be an object, not a string$/],
    ["no role", [{ content: "hi" }], {}, /^message 0: role must be one of system.*, not undefined$/],
    ["a wrong role", [{ role: "robot", content: "hi" }], {}, /^message 0: role must be .*, not "robot"$/],
    [
      "content as an object",
      user({ text: "hi" }),
      {},
      /^message 0: content must be a string or an array of parts, not an object$/,
    ],
    ["no content", [{ role: "user" }], {}, /^message 0: content must be .*, not undefined$/],
    ["a number as content", user(7), {}, /not the number 7$/],
    ["text as a part", user(["hi"]), {}, /^message 0: content\[0\] must be an object, not a string$/],
    [
      "an unknown part",
      user([{ type: "smell" }]),
      {},
      /^message 0: content\[0\]\.type must be one of text, .*, not "smell"$/,
    ],
    [
      "text that is an object",
      user([{ type: "text", text: {} }]),
      {},
      /^message 0: content\[0\]\.text must be a string, not an object$/,
    ],
    [
      "an image without data",
      user([{ type: "image", mimeType: "image/png" }]),
      {},
      /^message 0: content\[0\]\.data must be a string/,
    ],
    [
      "an odd image source",
      user([{ type: "image", source: { type: "ftp" } }]),
      {},
      /content\[0\]\.source\.type must be base64 or url/,
    ],
    ["a later message", [...user("a"), ...user(null)], {}, /^message 1: content must be/],
    ["a result without id", [{ role: "tool", content: "x" }], {}, /^message 0: tool_call_id must be a string/],
    [
      "a call without function",
      [{ role: "assistant", tool_calls: [{ id: "a" }] }],
      {},
      /^message 0: tool_calls\[0\]\.function must be an object/,
    ],
    [
      "arguments as an object",
      [{ role: "assistant", tool_calls: [{ id: "a", function: { name: "f", arguments: {} } }] }],
      {},
      /tool_calls\[0\]\.function\.arguments must be a string with JSON, not an object/,
    ],
    [
      "a BigInt in arguments",
      [{ role: "assistant", content: [{ type: "toolCall", id: "a", name: "f", arguments: { n: 1n } }] }],
      {},
      /^message 0 of the conversation cannot be sent: .*BigInt/,
    ],
    ["response_format", "hi", { response_format: {} }, /^the option response_format does not exist/],
    ["max_tokens", "hi", { max_tokens: 5 }, /^the option max_tokens does not exist: use maxTokens$/],
    ["baseURL", "hi", { baseURL: "x" }, /use baseUrl of new Kimi\(\)/],
    [
      "an unknown option in the input",
      { messages: user("hi"), stream: true },
      {},
      /^the option stream does not exist: iterate/,
    ],
    ["an option of another spelling", "hi", { session_id: "x" }, /use sessionId$/],
    ["an invented option", "hi", { sparkle: 1 }, /^the option sparkle does not exist \(known: /],
    ["a level that does not exist", "hi", { thinking: "ultra" }, /^thinking must be one of off, .*, not "ultra"$/],
    ["a boolean as thinking", "hi", { thinking: true }, /^thinking must be one of .*, not true$/],
    ["text as a number", "hi", { maxTokens: "100" }, /^maxTokens must be a whole number from 1 on, not a string$/],
    ["NaN", "hi", { temperature: NaN }, /^temperature must be a number from 0 to 100, not the number NaN$/],
    ["a negative time", "hi", { timeoutMs: -1 }, /^timeoutMs must be a whole number from 0/],
    ["infinity", "hi", { timeoutMs: Infinity }, /^timeoutMs must be .*, not the number Infinity$/],
    [
      "a controller as signal",
      "hi",
      { signal: new AbortController() },
      /^signal must be an AbortSignal, not an instance of AbortController$/,
    ],
    ["text as a hook", "hi", { onPayload: "x" }, /^onPayload must be a function, not a string$/],
    ["a number as header", "hi", { headers: { "X-A": 1 } }, /^headers\["X-A"\] must be a string, not the number 1$/],
    ["tools as an object", "hi", { tools: {} }, /^tools must be an array, not an object$/],
    ["a tool without name", "hi", { tools: [{ description: "d" }] }, /^tools\[0\]\.name is missing$/],
    [
      "a schema object",
      "hi",
      { tools: [{ name: "f", parameters: { "~standard": {} } }] },
      /^tools\[0\]\.parameters must be a JSON Schema; convert/,
    ],
    [
      "Anthropic's input_schema",
      "hi",
      { tools: [{ name: "f", input_schema: {} }] },
      /^the option tools\[0\]\.input_schema does not exist: use parameters$/,
    ],
    [
      "a tool of another kind",
      "hi",
      { tools: [{ type: "builtin", function: { name: "f" } }] },
      /^tools\[0\]\.type must be "function", not a string$/,
    ],
    ["a blank model", "hi", { model: " " }, /^model must be a string that is not blank/],
  ];
  for (const [what, input, options, expected] of cases) {
    test(what, async () => {
      const error = await refusal(() => kimi.chat(input as never, options as never).final());
      assert.match(error.message, expected);
      assert.equal(error.code, "bad_request");
      assert.equal(simulator.requests.length, 0, "nothing was sent");
    });
  }

  test("tool parameters that JSON cannot hold → the tool is described by a sentence", async () => {
    simulator.enqueue({ steps: [{ text: "ok" }] });
    await kimi.chat("hi", { tools: [{ name: "f", parameters: circular }] }).final();
    assert.equal(bodyOf<{ tools: unknown[] }>(answerRequests(simulator).at(-1)).tools.length, 1);
  });
});

describe("client: wrong options → an error that names the member", () => {
  const cases: [what: string, options: unknown, text: RegExp][] = [
    ["null", null, /must be an object, not null$/],
    ["a key alone", "sk-kimi-secret", /must be an object, not a string$/],
    ["baseURL", { baseURL: "x" }, /^the option baseURL does not exist: use baseUrl$/],
    ["api_key", { api_key: "x" }, /use apiKey$/],
    ["a number as key", { apiKey: 7 }, /^apiKey must be a string, not the number 7$/],
    ["a URL object", { baseUrl: new URL("http://x/") }, /^baseUrl must be a string, not an instance of URL$/],
    [
      "a number as variable",
      { env: { KIMI_CODE_DEBUG: 1 } },
      /^env\["KIMI_CODE_DEBUG"\] must be a string, not the number 1$/,
    ],
    ["settings as text", { settings: "{}" }, /^settings must be an object, not a string$/],
    ["a setting that does not exist", { settings: { protokoll: "openai" } }, /protokoll.*is not a setting/],
    ["a setting of a wrong type", { settings: { retry: { attempts: "many" } } }, /retry\.attempts/],
    ["a setting that JSON cannot hold", { settings: circular }, /^settings cannot be written as JSON/],
  ];
  for (const [what, options, expected] of cases) {
    test(what, async () => {
      const error = await refusal(() => new Kimi(options as never));
      assert.match(error.message, expected);
      assert.equal(error.code, "config");
    });
  }

  test("undefined members and process.env → accepted", () => {
    assert.ok(new Kimi({ apiKey: undefined as never, env: process.env as never }));
  });
});

describe("other calls: wrong input → an error that names the member", () => {
  const cases: [what: string, call: () => unknown, text: RegExp][] = [
    ["upload nothing", () => kimi.files.upload(undefined as never), /^the file must be a path, .*, not undefined$/],
    ["upload a number", () => kimi.files.upload(7 as never), /not the number 7$/],
    [
      "upload a web address",
      () => kimi.files.upload("https://example.com/a.png"),
      /^the file must be local: download https:\/\/ addresses first/,
    ],
    ["upload a web URL", () => kimi.files.upload(new URL("https://example.com/a.png")), /^the file must be local/],
    [
      "upload for audio",
      () => kimi.files.upload(new Uint8Array(1), { purpose: "audio" as never }),
      /^purpose must be one of image, video, not "audio"$/,
    ],
    ["upload with null", () => kimi.files.upload(new Uint8Array(1), null as never), /must be an object, not null$/],
    [
      "search nothing",
      () => kimi.search(undefined as never),
      /^the query must be a string that is not blank, not undefined$/,
    ],
    ["search an object", () => kimi.search({} as never), /not an object$/],
    [
      "search with an unknown option",
      () => kimi.search("x", { limit: 3 } as never),
      /^the option limit does not exist/,
    ],
    ["fetch a number", () => kimi.fetch(7 as never), /^the address must be/],
    ["a data source without name", () => kimi.datasource({} as never), /^source is missing$/],
    ["a data source as text", () => kimi.datasource("arxiv" as never), /must be an object, not a string$/],
    [
      "params that JSON cannot hold",
      () => kimi.datasource({ source: "arxiv", params: circular }),
      /^params cannot be written as JSON: /,
    ],
    ["models with a timeout", () => kimi.models({ timeoutMs: 5 } as never), /^the option timeoutMs does not exist/],
    ["usage of null", () => kimi.usage(null as never), /must be an object, not null$/],
    ["a login without onCode", () => kimi.login({} as never), /^onCode is missing$/],
    [
      "a login of a region that does not exist",
      () => kimi.login({ onCode: () => {}, region: "eu" as never }),
      /^region must be one of/,
    ],
  ];
  for (const [what, call, expected] of cases) {
    test(what, async () => {
      const error = await refusal(call);
      assert.match(error.message, expected);
      assert.equal(simulator.requests.length, 0);
    });
  }
});

test("input: an AbortSignal of another realm → accepted", async () => {
  const realm = createContext({ AbortController, AbortSignal });
  const signal = runInContext("AbortSignal.abort('no')", realm) as AbortSignal;
  assert.equal((await refusal(() => kimi.chat("hi", { signal }).final())).code, "cancelled");
});

test("input: extra members of other libraries in messages → accepted", async () => {
  simulator.enqueue({ steps: [{ text: "ok" }] });
  const answer = { role: "assistant", content: "a", refusal: null, annotations: [], audio: null, tool_calls: null };
  await kimi
    .chat([{ role: "user", content: "a", name: "me" }, answer, { role: "user", content: "b" }] as never)
    .final();
  assert.equal(bodyOf<{ messages: unknown[] }>(answerRequests(simulator).at(-1)).messages.length, 3);
});

test("web address of an image: refused by the service → left out with a note that says what to do", async () => {
  const refused = {
    status: 400,
    body: { error: { message: "Invalid request: unsupported image url", type: "invalid_request_error" } },
  };
  simulator.intercept("chat", refused);
  simulator.enqueue({ steps: [{ text: "No image." }] });
  const content = [
    { type: "image_url", image_url: { url: "https://example.com/a.png" } },
    { type: "text", text: "What is it?" },
  ];
  const notes: string[] = [];
  for await (const event of kimi.chat([{ role: "user", content }] as never))
    if (event.type === "note") notes.push(event.message);
  assert.match(notes.join(), /an image was left out.*upload the file/);
});

test("web addresses of images: refused one by one → left out with two notes, and answered", async () => {
  const refused = (message: number): object => ({
    status: 400,
    body: { error: { message: `Invalid request: unsupported image url in messages[${message}]`, type: "x" } },
  });
  simulator.intercept("chat", refused(0) as never, refused(1) as never);
  simulator.enqueue({ steps: [{ text: "No images." }] });
  const messages = ["a", "b", "c"].map((name) => ({
    role: "user",
    content: [
      { type: "text", text: name },
      { type: "image_url", image_url: { url: `https://example.com/${name}.png` } },
    ],
  }));
  const notes: string[] = [];
  const chat = kimi.chat(messages as never);
  for await (const event of chat) if (event.type === "note") notes.push(event.message);
  assert.equal(notes.length, 2);
  assert.match(notes[0] ?? "", /messages\[0\]\); an image was left out.*upload the file/);
  assert.match(notes[1] ?? "", /messages\[1\]\); images were left out.*upload the file/);
  assert.equal(await chat.text(), "No images.");
  const bodies = answerRequests(simulator).map((request) => JSON.stringify(bodyOf(request)));
  assert.deepEqual(
    bodies.slice(-3).map((body) => body.match(/example\.com/g)?.length ?? 0),
    [3, 2, 0],
  );
});
