/** Real Pi, headless: print, JSON and RPC mode, tools, abort, reload, missing parts. */
import assert from "node:assert/strict";
import { copyFileSync, cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { platformName } from "../../extension/native/platform.ts";
import { type Scenario, type Simulator } from "../simulator/index.ts";
import { bodyOf, Home, messages, type PiEvent, ROOT, RpcPi, runPi, textOf } from "../support/pi.ts";
import { piLevel } from "../support/pi-versions.ts";
import { withPi } from "../support/with-pi.ts";
import { answerRequests } from "../support/simulator.ts";

let simulator: Simulator;
let home: Home;
const open = withPi((...given) => ([simulator, home] = given));

const MODEL = ["--model", "kimi-coding/kimi-for-coding"];

function env(extra: Record<string, string | undefined> = {}): Record<string, string | undefined> {
  return { KIMI_CODE_BASE_URL: simulator.baseUrl, KIMI_API_KEY: simulator.apiKey, ...extra };
}

function rpc(extra: Record<string, string | undefined> = {}, args: string[] = []): RpcPi {
  return open(["--no-session", ...MODEL, ...args], { home, env: env(extra) });
}

async function json(prompt: string, args: string[] = []): Promise<PiEvent[]> {
  const result = await runPi(["--mode", "json", "--no-session", ...MODEL, ...args, prompt], { home, env: env() });
  assert.equal(result.stderr, "", "nothing may be printed");
  assert.equal(result.code, 0);
  return result.events;
}

describe("print mode", () => {
  test("print mode: an answer → stdout has only its text", async () => {
    simulator.enqueue({ steps: [{ thinking: "Hm." }, { text: "Hello from Kimi.", size: 3 }] });
    const result = await runPi(["-p", "--no-session", ...MODEL, "hi"], { home, env: env() });
    assert.deepEqual([result.code, result.stdout.trim(), result.stderr], [0, "Hello from Kimi.", ""]);
  });

  test("base URL: a final /v1 → the same address", async () => {
    simulator.enqueue({ steps: [{ text: "ok" }] });
    const result = await runPi(["-p", "--no-session", ...MODEL, "hi"], {
      home,
      env: env({ KIMI_CODE_BASE_URL: `${simulator.baseUrl}/v1/` }),
    });
    assert.equal(result.stdout.trim(), "ok");
  });

  test("print mode: an error of the service → its message on stderr", async () => {
    simulator.enqueue({
      http: { status: 400, body: { error: { message: "At path 'properties.X': type is not defined" } } },
    });
    const result = await runPi(["-p", "--no-session", ...MODEL, "hi"], { home, env: env() });
    assert.equal(result.code, 1);
    assert.match(result.stderr, /400 At path 'properties\.X': type is not defined/);
  });

  test("error page: HTML → its title", async () => {
    const page = "<html><head><title>Bad Gateway\r\n here</title></head></html>";
    home.settings({ retry: { enabled: false } });
    simulator.setDefault({ http: { status: 502, headers: { "content-type": "text/html" }, body: page } });
    const result = await runPi(["-p", "--no-session", ...MODEL, "hi"], {
      home,
      env: env({ KIMI_LOOP_MAX_ATTEMPTS_PER_STEP: "1" }),
    });
    assert.match(result.stderr, /502 Bad Gateway here/);
    assert.doesNotMatch(result.stderr, /<html>/);
  });
});

describe("JSON mode", () => {
  test("JSON mode: an answer → events in order, balanced, one end", async () => {
    simulator.enqueue({
      steps: [
        { thinking: "One two three.", size: 4 },
        { text: "Four five six.", size: 4 },
      ],
    });
    const events = await json("count");
    const kinds = events
      .filter((event) => event.type === "message_update")
      .map((event) => (event["assistantMessageEvent"] as { type: string }).type)
      .filter((type, at, all) => !type.endsWith("_delta") || all[at - 1] !== type);
    assert.deepEqual(kinds, [
      "thinking_start",
      "thinking_delta",
      "thinking_end",
      "text_start",
      "text_delta",
      "text_end",
    ]);
    assert.equal(events.filter((event) => event.type === "agent_end").length, 1);
    const [message] = messages(events);
    assert.deepEqual(message?.content, [
      { type: "thinking", thinking: "One two three.", thinkingSignature: "reasoning_content" },
      { type: "text", text: "Four five six." },
    ]);
    assert.equal(message?.stopReason, "stop");
    assert.ok((message?.usage?.input ?? 0) > 0 && (message?.usage?.cost.total ?? 0) > 0);
  });

  test("JSON mode: many deltas → merged at display rate, and equal to the final text", async () => {
    const text = "Grüße, 世界! 👋 ".repeat(500);
    simulator.enqueue({ steps: [{ text, size: 7 }], chunkBytes: 13 });
    const events = await json("go");
    const deltas = events
      .filter((event) => event.type === "message_update")
      .map((event) => event["assistantMessageEvent"] as { type: string; delta?: string })
      .filter((event) => event.type === "text_delta");
    assert.equal(deltas.map((event) => event.delta).join(""), text);
    assert.equal(textOf(messages(events)[0]), text);
    // A frame per 33 ms, for as long as the answer took and a little longer.
    const [{ time, endedAt = Infinity } = { time: 0 }] = answerRequests(simulator);
    const frames = (endedAt - time) / 33 + 100;
    assert.ok(deltas.length < frames, `merged at display rate, not one event per delta (${deltas.length})`);
  });

  test("JSON mode: a tool call → Pi runs it and sends its output", async () => {
    const events = await json("run: echo marker-$((40+2))");
    const [call, answer] = messages(events);
    assert.equal(call?.stopReason, "toolUse");
    assert.match(textOf(answer), /marker-42/);
    const [, second] = simulator.requests.filter((request) => request.endpoint === "chat");
    const sent = bodyOf<{ messages: { role: string; content?: unknown; reasoning_content?: string }[] }>(
      second,
    ).messages;
    assert.match(String(sent.at(-1)?.content), /marker-42/);
    assert.equal(typeof sent.at(-2)?.reasoning_content, "string", "reasoning is replayed");
    assert.equal(sent.at(-2)?.content, undefined, "no empty content beside tool calls");
  });

  test("JSON mode: parallel tool calls → all run", async () => {
    simulator.enqueue(
      {
        steps: [
          {
            toolCalls: [
              { name: "bash", arguments: { command: "echo left" } },
              { name: "bash", arguments: { command: "echo right" } },
            ],
            interleave: true,
            size: 5,
          },
        ],
      },
      { steps: [{ text: "both done" }] },
    );
    const events = await json("go");
    const results = messages(events, "toolResult").map((message) => textOf(message).trim());
    assert.deepEqual(results.sort(), ["left", "right"]);
    assert.equal(textOf(messages(events).at(-1)), "both done");
  });

  test("tool arguments: 25 KB in small deltas → exact", async () => {
    const content = 'line "quoted" \\ with ünïcode 😀\n'.repeat(800);
    simulator.enqueue(
      { steps: [{ toolCall: { name: "write", arguments: { path: "out.txt", content } }, size: 5 }] },
      { steps: [{ text: "written" }] },
    );
    await json("write it");
    assert.equal(readFileSync(join(home.cwd, "out.txt"), "utf8"), content);
  });
});

describe("RPC mode", () => {
  test("RPC mode: two prompts → one conversation", async () => {
    const pi = rpc();
    simulator.enqueue({ steps: [{ text: "first" }] }, { steps: [{ text: "second" }] });
    await pi.prompt("one");
    const events = await pi.prompt("two");
    assert.equal(textOf(messages(events)[0]), "second");
    const sent = bodyOf<{ messages: { role: string; content: string }[] }>(answerRequests(simulator).at(-1)).messages;
    assert.deepEqual(
      sent.map(({ role, content }) => (role === "system" ? role : content)),
      ["system", "one", "first", "two"],
    );
  });

  for (const [moment, scenario] of [
    ["connecting", { hang: "headers" }],
    ["streaming", { steps: [{ text: "begin" }, { pauseMs: 60_000 }, { text: "end" }] }],
    [
      "between frames",
      { steps: [{ text: "begin" }, { repeat: { kind: "text", count: 12_000, text: "word ", perSecond: 200 } }] },
    ],
  ] satisfies [string, Scenario][]) {
    test(`RPC mode: abort while ${moment} → the turn ends and the connection closes`, async () => {
      const pi = rpc();
      simulator.enqueue(scenario);
      const from = pi.events.length;
      await pi.command({ type: "prompt", message: "go" });
      const request = await simulator.waitForRequest((record) => record.endpoint === "chat");
      if (moment !== "connecting") {
        await pi.waitFor((event) => event.type === "message_update", from);
      }
      const aborted = Date.now();
      await pi.command({ type: "abort" });
      await pi.waitFor((event) => event.type === "agent_settled", from);
      assert.ok(Date.now() - aborted < 20_000);
      const message = messages(pi.events.slice(from)).at(-1);
      assert.equal(message?.stopReason, "aborted");
      if (moment !== "connecting") assert.match(textOf(message), /^begin/);
      // The service sees the connection close.
      await simulator.waitForRequest(({ id, aborted }) => id === request.id && aborted);
    });
  }

  test("reload: twice → the provider still works", async () => {
    const reload = join(home.path, "reload.ts");
    writeFileSync(
      reload,
      `export default (pi) => { pi.registerCommand("again", { handler: (_args, ctx) => ctx.reload() }); };`,
    );
    const pi = open(["--no-session", ...MODEL], { home, env: env(), extensions: [ROOT, reload] });
    for (const word of ["zero", "one", "two"]) {
      if (word !== "zero") await pi.command({ type: "prompt", message: "/again" });
      simulator.enqueue({ steps: [{ text: word }] });
      const events = await pi.prompt("hi");
      assert.equal(textOf(messages(events)[0]), word);
    }
  });

  test("models: no stored list → the built-in list", async () => {
    const { data } = (await rpc().command({ type: "get_available_models" })) as unknown as {
      data: { models: { provider: string; id: string; api: string }[] };
    };
    const ours = data.models.filter((model) => model.provider === "kimi-coding");
    assert.deepEqual(ours.map((model) => model.id).sort(), [
      "k3",
      "k3-256k",
      "k3.1-pro",
      "k3.1-pro-highspeed",
      "kimi-for-coding",
      "kimi-for-coding-highspeed",
    ]);
    assert.ok(ours.every((model) => model.api === "kimi-code-native"));
  });
});

describe("hooks", () => {
  test("hooks: payload and response of another extension → see and change the request", async () => {
    const seen = join(home.path, "seen.json");
    const spy = join(home.path, "spy.ts");
    writeFileSync(
      spy,
      `import { appendFileSync } from "node:fs";
       const note = (x) => appendFileSync(${JSON.stringify(seen)}, JSON.stringify(x) + "\\n");
       export default (pi) => {
         pi.on("before_provider_request", (event) => { note({ model: event.payload.model }); return { ...event.payload, user_mark: 7 }; });
         pi.on("after_provider_response", (event) => { note({ status: event.status, trace: event.headers["x-trace-id"] !== undefined }); });
       };`,
    );
    simulator.enqueue({ steps: [{ text: "ok" }] });
    const result = await runPi(["-p", "--no-session", ...MODEL, "hi"], { home, env: env(), extensions: [ROOT, spy] });
    assert.equal(result.stdout.trim(), "ok");
    assert.equal(bodyOf<{ user_mark?: number }>(answerRequests(simulator).at(-1)).user_mark, 7);
    const notes = readFileSync(seen, "utf8")
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as unknown);
    assert.deepEqual(notes, [{ model: "kimi-for-coding" }, { status: 200, trace: true }]);
  });
});

describe("what is missing", () => {
  test("no credential: a prompt → no request, and the error names /login", async () => {
    const result = await runPi(["-p", "--no-session", ...MODEL, "hi"], { home, env: env({ KIMI_API_KEY: undefined }) });
    assert.equal(result.code, 1);
    assert.match(result.stderr, /\/login/);
    assert.equal(simulator.requests.length, 0);
  });

  test("refused key: a prompt → one request, and the error names the repair", async () => {
    const result = await runPi(["-p", "--no-session", ...MODEL, "hi"], {
      home,
      env: env({ KIMI_API_KEY: "sk-wrong" }),
    });
    assert.match(result.stderr, /401 The API Key appears to be invalid.*KIMI_API_KEY.*\/login kimi-coding/s);
    assert.equal(answerRequests(simulator).length, 1, "a refused key is not tried again");
  });

  /** Copies the package as it is installed, without its addon. */
  function packageWithoutAddon(): string {
    const copy = join(home.path, "package");
    mkdirSync(copy);
    for (const entry of ["package.json", "index.ts", "extension"])
      cpSync(join(ROOT, entry), join(copy, entry), { recursive: true });
    return copy;
  }

  test("no addon: start with a screen → the built-in provider stays, one warning names the repair", async () => {
    const pi = open(["--no-session"], { home, env: env(), extensions: [packageWithoutAddon()] });
    const { data } = (await pi.command({ type: "get_available_models" })) as unknown as {
      data: { models: { provider: string; api: string }[] };
    };
    const builtIn = data.models.filter((model) => model.provider === "kimi-coding");
    const api = piLevel() >= 1003 ? "openai-completions" : "anthropic-messages";
    assert.ok(builtIn.length > 0 && builtIn.every((model) => model.api === api));
    const isWarning = (event: PiEvent): boolean =>
      event.type === "extension_ui_request" && event["method"] === "notify";
    await pi.waitFor(isWarning);
    const warnings = pi.events.filter(isWarning);
    assert.equal(warnings.length, 1);
    assert.match(JSON.stringify(warnings[0]), new RegExp(`native part for ${platformName()}.*pi install`));
  });

  test("no addon: print mode → stderr names the repair", async () => {
    // Without a credential, or the built-in provider would send the prompt to the real service.
    const { stdout, stderr } = await runPi(["-p", ...MODEL, "hi"], { home, extensions: [packageWithoutAddon()] });
    assert.match(stderr, new RegExp(`Warning: .*native part for ${platformName()}.*pi install`));
    assert.doesNotMatch(stdout, /Warning/);
  });

  test("missing file: loaded on demand → the turn or command fails, and Pi goes on", async () => {
    const copy = packageWithoutAddon();
    const directory = join(copy, "npm", platformName());
    mkdirSync(directory, { recursive: true });
    copyFileSync(join(ROOT, "npm", platformName(), "kimi-code.node"), join(directory, "kimi-code.node"));
    for (const part of ["turn/turn", "quota", "settings/command"]) rmSync(join(copy, "extension", `${part}.ts`));
    const pi = open(["--no-session", ...MODEL], { home, env: env(), extensions: [copy] });
    const events = await pi.prompt("hi");
    assert.match(messages(events).at(-1)?.errorMessage ?? "", /could not be loaded, after an update please restart Pi/);
    await pi.command({ type: "prompt", message: "/kimi-usage" });
    const failed = await pi.waitFor((event) => event.type === "extension_error");
    assert.match(JSON.stringify(failed), /quota\.ts/);
    assert.ok((await pi.command({ type: "get_state" }))["success"]);
  });

  test("addon of another version: start → it is not used", async () => {
    const copy = packageWithoutAddon();
    const directory = join(copy, "npm", platformName());
    mkdirSync(directory, { recursive: true });
    copyFileSync(join(ROOT, "npm", platformName(), "kimi-code.node"), join(directory, "kimi-code.node"));
    const manifest = join(copy, "package.json");
    writeFileSync(manifest, readFileSync(manifest, "utf8").replace(/"version": "[^"]+"/, '"version": "99.0.0"'));
    const pi = open(["--no-session"], { home, env: env(), extensions: [copy] });
    const warning = await pi.waitFor((event) => event.type === "extension_ui_request" && event["method"] === "notify");
    assert.match(JSON.stringify(warning), /99\.0\.0 is needed/);
  });
});

describe("diagnostics", () => {
  test("debug log: KIMI_CODE_DEBUG=1 → a log without credentials, nothing on the terminal", async () => {
    simulator.enqueue({ steps: [{ text: "ok" }] });
    const result = await runPi(["-p", "--no-session", ...MODEL, "hi"], { home, env: env({ KIMI_CODE_DEBUG: "1" }) });
    assert.deepEqual([result.stdout.trim(), result.stderr], ["ok", ""]);
    const log = readFileSync(join(home.home, ".pi", "pi-provider-kimi-code", "debug.log"), "utf8");
    assert.match(log, /request bytes=\d+/);
    assert.ok(!log.includes(simulator.apiKey));
  });
});
