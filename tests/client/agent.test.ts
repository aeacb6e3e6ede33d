/** Structured output, tool choice, sampling, the tool loop, sign-out and the logger of the client. */
import assert from "node:assert/strict";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { beforeEach, describe, test } from "node:test";
import { type ChatOptions, Kimi, type KimiOptions, type LogEvent, type RunOptions } from "../../index.ts";
import type { Simulator } from "../simulator/index.ts";
import { failure } from "../support/failure.ts";
import { withClientHome } from "../support/client-home.ts";
import { bodyOf } from "../support/pi.ts";
import { fakeMp4, fakePng } from "../support/sample-media.ts";
import { answerRequests } from "../support/simulator.ts";

let simulator: Simulator;
let kimi: Kimi;
const home = withClientHome((started) => (simulator = started));
const connection = (): KimiOptions => ({ baseUrl: simulator.baseUrl, apiKey: simulator.apiKey });
beforeEach(() => {
  kimi = new Kimi(connection());
});

/** Writes the home file and returns its path. */
function writeSettings(settings: object): string {
  const file = join(home.home, ".pi", "pi-provider-kimi-code.json");
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, JSON.stringify(settings));
  return file;
}

const body = (): Record<string, unknown> => bodyOf(answerRequests(simulator).at(-1));
const chats = (): number => simulator.requests.filter(({ endpoint }) => endpoint === "chat").length;

/** The answer to a question, and the notes beside it. */
async function asked(options: ChatOptions, client = kimi): Promise<{ text: string; notes: string[] }> {
  const chat = client.chat("hi", options);
  const notes: string[] = [];
  for await (const event of chat) if (event.type === "note") notes.push(event.message);
  return { text: await chat.text(), notes };
}

const PERSON = {
  $schema: "https://json-schema.org/draft/2020-12/schema",
  type: "object",
  properties: { name: { type: "string" }, age: { type: "integer", minimum: 0 } },
  required: ["name"],
  additionalProperties: false,
};
const FORMAT = { type: "json_schema", name: "person", schema: PERSON } as const;

describe("object", () => {
  test("answer that follows the schema → the value; the schema is in the request", async () => {
    simulator.enqueue({ steps: [{ text: '{"name":"Ada","age":36}' }] });
    const value = await kimi.chat("Who?", { responseFormat: FORMAT }).object<{ name: string }>();
    assert.deepEqual(value, { name: "Ada", age: 36 });
    const format = body()["response_format"] as { json_schema: { schema: object } };
    assert.ok(!("$schema" in format.json_schema.schema));
  });

  test("JSON in a code block → the value", async () => {
    simulator.enqueue({ steps: [{ text: '```json\n{"name":"Ada"}\n```' }] });
    assert.deepEqual(await kimi.chat("Who?", { responseFormat: FORMAT }).object(), { name: "Ada" });
  });

  for (const [what, text, message] of [
    ["no JSON", "Ada.", /not JSON/],
    ["a missing member", "{}", /has no name/],
    ["a wrong type", '{"name":1}', /name must be string/],
    ["a number out of range", '{"name":"A","age":-1}', /age must be at least 0/],
    ["a further member", '{"name":"A","x":1}', /x is not allowed/],
  ] as const) {
    test(`${what} → invalid_object with the text`, async () => {
      simulator.enqueue({ steps: [{ text }] });
      const error = await failure(kimi.chat("Who?", { responseFormat: FORMAT }).object());
      assert.equal(error.code, "invalid_object");
      assert.match(error.message, message);
      assert.deepEqual(error.partial?.content, [{ type: "text", text }]);
    });
  }

  test("a schema with what JavaScript cannot read → that is ignored, in an answer and in arguments", async () => {
    const schema = {
      type: "object",
      properties: { a: { $ref: "#/$defs/100%" } },
      patternProperties: { "(?i)^x": { type: "number" } },
      $defs: { "100%": { type: "string" } },
    };
    const format = { type: "json_schema", schema } as const;
    const reply = (text: string): Promise<unknown> => {
      simulator.enqueue({ steps: [{ text }] });
      return kimi.chat("Who?", { responseFormat: format }).object();
    };
    assert.deepEqual(await reply('{"a":"1","x":"y"}'), { a: "1", x: "y" });
    assert.match((await failure(reply('{"a":1}'))).message, /a must be string/);
    const tool = { name: "t", parameters: schema, execute: () => "ran" };
    simulator.enqueue({ steps: [{ toolCall: { name: "t", arguments: { a: "1", x: "y" } } }] } as never, {
      steps: [{ text: "ok" }],
    });
    const { steps } = await kimi.run({ prompt: "go", tools: [tool] });
    assert.equal(steps[0]?.calls[0]?.result, "ran");
  });

  test("Anthropic dialect → the schema is an instruction", async () => {
    simulator.enqueue({ steps: [{ text: '{"name":"Ada"}' }] });
    const other = new Kimi({
      baseUrl: simulator.baseUrl,
      apiKey: simulator.apiKey,
      settings: { protocol: "anthropic" },
    });
    assert.deepEqual(await other.chat("Who?", { responseFormat: FORMAT }).object(), { name: "Ada" });
    assert.match(JSON.stringify(body()["messages"]), /follows this JSON Schema/);
  });

  test("refused by the service → asked again in words, with a note", async () => {
    const refused = { status: 400, body: { error: { message: "response_format is not supported", type: "x" } } };
    simulator.intercept("chat", refused);
    simulator.enqueue({ steps: [{ text: '{"name":"Ada"}' }] });
    const { text, notes } = await asked({ responseFormat: FORMAT, model: "k3-256k" });
    assert.equal(text, '{"name":"Ada"}');
    assert.match(notes.join(), /asked in words/);
    assert.equal(body()["response_format"], undefined);
  });
});

describe("parameters", () => {
  const tools = [{ name: "look", parameters: { type: "object", properties: {} } }];

  test("stop, topP, temperature → in the body", async () => {
    simulator.enqueue({ steps: [{ text: "ok" }] });
    await asked({ stop: "END", topP: 0.95, temperature: 1 });
    const { stop, top_p, temperature } = body();
    assert.deepEqual([stop, top_p, temperature], [["END"], 0.95, 1]);
  });

  test("a temperature that the model refuses → left out with a note, and not sent again", async () => {
    const refused = {
      status: 400,
      body: { error: { message: "invalid temperature: only 1 is allowed for this model", type: "x" } },
    };
    simulator.intercept("chat", refused);
    for (const requests of [2, 1]) {
      const before = chats();
      simulator.enqueue({ steps: [{ text: "ok" }] });
      const { text, notes } = await asked({ temperature: 0.3 });
      assert.equal(text, "ok");
      assert.match(notes.join(), /does not accept this temperature/);
      assert.equal(chats() - before, requests);
    }
  });

  test("tool choice while the model thinks → auto, with a note every time", async () => {
    for (const toolChoice of ["required", { name: "look" }] as const) {
      simulator.enqueue({ steps: [{ text: "ok" }] });
      const { notes } = await asked({ toolChoice, tools, thinking: "high" });
      assert.match(notes.join(), /cannot be forced/);
      assert.equal(body()["tool_choice"], "auto");
    }
  });

  test("tool choice none → sent without a note", async () => {
    simulator.enqueue({ steps: [{ text: "ok" }] });
    assert.deepEqual((await asked({ toolChoice: "none", tools })).notes, []);
    assert.equal(body()["tool_choice"], "none");
  });
});

describe("run", () => {
  const add = {
    name: "add",
    description: "Adds.",
    parameters: { type: "object", properties: { a: { type: "number" } }, required: ["a"] },
    execute: ({ a }: { a: number }) => ({ sum: a + 1 }),
  };
  const call = (args: object, name = "add"): object => ({ toolCall: { name, arguments: args } });
  const start = (options: Partial<RunOptions> = {}): Promise<unknown> =>
    kimi.run({ prompt: "go", tools: [add], ...options });

  test("calls and answer → text, messages, steps, usage", async () => {
    simulator.enqueue({ steps: [call({ a: 1 }), call({ a: 2 })] } as never, { steps: [{ text: "Done." }] });
    const seen: number[] = [];
    const result = await kimi.run({ prompt: "go", tools: [add], onStep: ({ calls }) => void seen.push(calls.length) });
    assert.equal(result.text, "Done.");
    assert.deepEqual(seen, [2, 0]);
    assert.deepEqual(
      result.messages.map(({ role }) => role),
      ["user", "assistant", "toolResult", "toolResult", "assistant"],
    );
    assert.deepEqual(
      result.steps[0]?.calls.map(({ result: text }) => text),
      ['{"sum":2}', '{"sum":3}'],
    );
    assert.ok(result.usage.totalTokens > 0);
    assert.equal(result.stopReason, "stop");
  });

  test("wrong arguments, a throwing tool, an unknown tool → the model is told", async () => {
    const broken = { name: "broken", execute: () => Promise.reject(new Error("no disk")) };
    simulator.enqueue({ steps: [call({ a: "x" }), call({}, "broken"), call({}, "absent")] } as never, {
      steps: [{ text: "ok" }],
    });
    const { steps } = await kimi.run({ prompt: "go", tools: [add, broken] });
    const results = steps[0]?.calls ?? [];
    assert.ok(results.every(({ isError }) => isError));
    assert.match(results.map(({ result }) => result).join("\n"), /a must be number\nno disk\nthere is no tool absent/);
  });

  test("maxSteps → ends and says so", async () => {
    for (let step = 0; step < 2; step += 1) simulator.enqueue({ steps: [call({ a: step })] } as never);
    assert.equal(((await start({ maxSteps: 2 })) as { stopReason: string }).stopReason, "max_steps");
  });

  test("the same call again and again → 4 executions, 12 requests, tool_loop", async () => {
    simulator.setDefault({ steps: [call({ a: 1 })] } as never);
    let executions = 0;
    const counted = { ...add, execute: () => (executions++, "same") };
    const error = await failure(start({ tools: [counted] }));
    assert.equal(error.code, "tool_loop");
    assert.deepEqual([executions, chats()], [4, 12]);
  });

  test("limits of the settings → hold for a run; its own limits win", async () => {
    simulator.setDefault({ steps: [call({ a: 1 })] } as never);
    const settings = writeSettings({ loop: { stop: 5, block: 4 } });
    const stopped = async (client: Kimi, loop?: RunOptions["loop"]): Promise<number> => {
      const before = chats();
      const given = loop === undefined ? {} : { loop };
      const error = await failure(client.run({ prompt: "go", tools: [{ ...add, execute: () => "same" }], ...given }));
      assert.equal(error.code, "tool_loop");
      return chats() - before;
    };
    const own = new Kimi({ ...connection(), settings: { loop: { stop: 4 } } });
    assert.equal(await stopped(kimi), 5);
    rmSync(settings);
    assert.equal(await stopped(own), 4);
    assert.equal(await stopped(own, { stop: 6 }), 6);
    assert.equal(await stopped(own, { warn: 0, stop: undefined } as never), 4);
  });

  test("a repeated call → one note, also where one answer has it twice", async () => {
    const twice = { steps: [call({ a: 1 }), call({ a: 1 })] };
    simulator.enqueue(...(Array.from({ length: 4 }, () => twice) as never[]), { steps: [{ text: "ok" }] });
    const notes: string[] = [];
    const onEvent: RunOptions["onEvent"] = (event) => void (event.type === "note" && notes.push(event.message));
    await start({ tools: [{ ...add, execute: () => "same" }], loop: { warn: 3, block: 0, stop: 0 }, onEvent });
    assert.deepEqual(notes, [
      "Kimi repeats itself: add was called 2 times with the same arguments and returned the same result each time.",
    ]);
  });

  test("parts that a tool returns → parts of the request; data with a type → JSON", async () => {
    const image = await kimi.files.upload(fakePng(1000, "result"));
    const video = await kimi.files.upload(fakeMp4(1000, "result"));
    const parts = [
      { type: "text", text: "Both:" },
      { type: "image_url", image_url: { url: image.url } },
      { type: "video_url", video_url: { url: video.url } },
    ];
    const data = [{ type: "image_url", image_url: { url: "file:///a.png" } }];
    const tools = [
      { name: "look", execute: () => parts },
      { name: "list", execute: () => data },
    ];
    simulator.enqueue({ steps: [call({}, "look"), call({}, "list")] } as never, { steps: [{ text: "ok" }] });
    const { messages } = await kimi.run({ prompt: "go", tools });
    const sent = (body()["messages"] as { role: string; content: unknown }[]).filter(({ role }) => role === "tool");
    assert.deepEqual(sent[0]?.content, parts);
    assert.equal(sent[1]?.content, JSON.stringify(data));
    for (const protocol of ["openai", "anthropic"]) {
      simulator.enqueue({ steps: [{ text: "ok" }] });
      const client = new Kimi({ ...connection(), settings: { protocol } });
      assert.equal(await client.chat([...messages, { role: "user", content: "And?" }]).text(), "ok");
    }
  });

  test("abort while a tool ignores its signal → the run ends, with what was done before", async () => {
    const controller = new AbortController();
    const deaf = (): Promise<never> => {
      controller.abort("enough");
      return new Promise(() => {});
    };
    simulator.enqueue({ steps: [call({ a: 1 })] } as never);
    const error = await failure(start({ tools: [{ ...add, execute: deaf }], signal: controller.signal }));
    assert.deepEqual([error.code, error.cause, error.messages?.length], ["cancelled", "enough", 2]);
  });

  test("a later request fails → the error has the conversation so far, which goes on", async () => {
    simulator.enqueue({ steps: [call({ a: 1 })] } as never);
    const execute = (): string => {
      simulator.intercept("chat", { status: 400, body: { error: { message: "no", type: "x" } } });
      return "21";
    };
    const error = await failure(start({ tools: [{ ...add, execute }] }));
    assert.equal(error.code, "bad_request");
    const { messages = [] } = error;
    assert.deepEqual(
      messages.map(({ role }) => role),
      ["user", "assistant", "toolResult"],
    );
    simulator.enqueue({ steps: [{ text: "Done." }] });
    assert.equal((await kimi.run({ messages, tools: [add] })).text, "Done.");
  });

  test("one of two calls ends the run → the result of the other is kept", async () => {
    simulator.enqueue({ steps: [call({ a: 1 }), call({}, "slow")] } as never);
    const controller = new AbortController();
    const slow = {
      name: "slow",
      execute: (_args: unknown, { signal }: { signal: AbortSignal }) =>
        new Promise((_resolve, reject) => {
          signal.addEventListener("abort", () => reject(signal.reason));
          setImmediate(() => controller.abort());
        }),
    };
    const { code, messages } = await failure(start({ tools: [add, slow], signal: controller.signal }));
    assert.equal(code, "cancelled");
    assert.deepEqual(
      messages?.map((message) => ("toolName" in message ? message.toolName : message.role)),
      ["user", "assistant", "add"],
    );
  });

  test("abort while a tool runs → cancelled, and the tool's signal fires", async () => {
    simulator.enqueue({ steps: [call({ a: 1 })] } as never);
    const controller = new AbortController();
    let heard = false;
    const slow = {
      ...add,
      execute: (_args: unknown, { signal }: { signal: AbortSignal }) =>
        new Promise((_resolve, reject) => {
          signal.addEventListener("abort", () => {
            heard = true;
            reject(signal.reason);
          });
          controller.abort("enough");
        }),
    };
    const error = await failure(start({ tools: [slow], signal: controller.signal }));
    assert.deepEqual([error.code, error.cause, heard], ["cancelled", "enough", true]);
  });

  test("wrong options → an error that names the member", async () => {
    assert.match((await failure(kimi.run({} as never))).message, /needs messages or a prompt/);
    assert.match(
      (await failure(kimi.run({ prompt: "x", tools: [{ name: "f" }] } as never))).message,
      /tools\[0\]\.execute is missing/,
    );
  });
});

test("logout: after a login → signed out, once", async () => {
  const env = { KIMI_CODE_OAUTH_HOST: simulator.oauthHost, KIMI_API_KEY: "" };
  const client = new Kimi({ baseUrl: simulator.baseUrl, env });
  await client.login({ onCode: () => {}, region: "mainland-cn" });
  assert.equal(client.hasLogin(), true);
  assert.equal(await client.logout(), true);
  assert.equal(client.hasLogin(), false);
  assert.equal(await client.logout(), false);
});

test("logger: a chat and a refused chat → events without key and content", async () => {
  const events: LogEvent[] = [];
  const logged = (apiKey: string): Kimi =>
    new Kimi({ baseUrl: simulator.baseUrl, apiKey, logger: (event) => void events.push(event) });
  simulator.enqueue({ steps: [{ text: "secret answer" }] });
  await logged(simulator.apiKey).chat("secret question").final();
  const refused = await failure(logged("sk-kimi-wrong-0123456789").chat("secret question").final());
  await new Promise((resolve) => setTimeout(resolve, 10));
  assert.deepEqual(
    events.map(({ type }) => type).filter((type) => type !== "chat_response"),
    ["chat_start", "chat_end", "chat_start", "chat_error"],
  );
  assert.doesNotMatch(JSON.stringify(events), /secret|sk-kimi/);
  const last = events.at(-1);
  assert.ok(last?.type === "chat_error" && last.status === 401);
  assert.match(last.traceId ?? "", /^\S+$/);
  assert.equal(last.traceId, refused.traceId);
});

test("logger: throws → the chat goes on", async () => {
  simulator.enqueue({ steps: [{ text: "ok" }] });
  const logger = (): never => {
    throw new Error("full");
  };
  assert.equal(
    await new Kimi({ baseUrl: simulator.baseUrl, apiKey: simulator.apiKey, logger }).chat("hi").text(),
    "ok",
  );
});
