/** What users do with Pi, one short test for each. They run in every supported version (matrix.ts). */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { call, type RequestRecord, type Simulator, text, think } from "../simulator/index.ts";
import { type Machine, withPrograms } from "../support/account.ts";
import { bodyOf, messages, PI_CLI, ROOT, RpcPi, runPi, textOf } from "../support/pi.ts";
import { piLevel } from "../support/pi-versions.ts";
import { realPng } from "../support/sample-media.ts";
import { Terminal } from "../support/terminal.ts";
import { answerRequests } from "../support/simulator.ts";

let simulator: Simulator;
let machine: Machine;
const opened = withPrograms((...given) => {
  [simulator, machine] = given;
  simulator.setDefault({ steps: [{ text: "Hello." }] });
});

const MODEL = ["--model", "kimi-coding/kimi-for-coding"];
const DIALECTS = ["openai", "anthropic"] as const;

/** MCP servers, `tool_search` and codemode came with Pi 1.0 to 1.3. */
const HAS_MCP = piLevel() >= 1003;

type Variables = Record<string, string | undefined>;

function env(extra: Variables = {}): Variables {
  return machine.variables({ KIMI_API_KEY: simulator.apiKey, ...extra });
}

function rpc(args: string[] = ["--no-session"], extra: Variables = {}, extensions = [ROOT]): RpcPi {
  return opened(new RpcPi([...MODEL, ...args], { home: machine, env: env(extra), extensions }));
}

function terminal(args: string[] = ["--no-session"], variables = env()): Terminal {
  return opened(new Terminal([...MODEL, ...args], { home: machine, env: variables, rows: 60 }));
}

async function print(
  args: string[],
  extra: Variables = {},
  extensions: string[] | "installed" = [ROOT],
): Promise<string> {
  const result = await runPi(["-p", ...MODEL, ...args], { home: machine, env: env(extra), extensions });
  assert.equal(result.code, 0, result.stderr);
  return result.stdout.trim();
}

function chats(): RequestRecord[] {
  return answerRequests(simulator);
}

interface Body {
  messages: { role: string; content?: unknown; tools?: { function: { name: string } }[] }[];
  tools?: { function?: { name: string }; name?: string }[];
  [member: string]: unknown;
}

function lastBody(): Body {
  return bodyOf<Body>(chats().at(-1));
}

/** Names of the tools that a request declares, at its top or in the messages. */
function declared(body: Body): string[] {
  const late = body.messages.flatMap(({ tools = [] }) => tools);
  return [...(body.tools ?? []), ...late].map((tool) => tool.function?.name ?? (tool as { name: string }).name);
}

/** Writes a file of the test machine and returns its path. */
function file(name: string, content: string): string {
  const path = join(machine.path, name);
  writeFileSync(path, content);
  return path;
}

function enableTools(more: object = {}): void {
  mkdirSync(join(machine.home, ".pi"), { recursive: true });
  const names = ["moonshot_search", "moonshot_fetch", "kimi_datasource"];
  const tools = Object.fromEntries(names.map((name) => [name, { enabled: true, ...more }]));
  writeFileSync(join(machine.home, ".pi", "pi-provider-kimi-code.json"), JSON.stringify({ tools }));
}

/** A login instead of a key, as the tools need one. */
function signedIn(): Variables {
  machine.piLogin(simulator.oauth.login(), 800);
  return { KIMI_API_KEY: undefined };
}

describe("headless", () => {
  test("print mode: a prompt → the answer", async () => {
    assert.equal(await print(["--no-session", "hi"]), "Hello.");
  });

  for (const dialect of DIALECTS) {
    test(`JSON mode, ${dialect}: a prompt with a tool call → both messages`, async () => {
      simulator.enqueue({ steps: [call("bash", { command: "echo seen-$((40+2))" })] });
      const result = await runPi(["--mode", "json", "--no-session", ...MODEL, "go"], {
        home: machine,
        env: env({ KIMI_CODE_PROTOCOL: dialect }),
      });
      assert.equal(result.stderr, "");
      assert.deepEqual(
        messages(result.events).map(({ stopReason }) => stopReason),
        ["toolUse", "stop"],
      );
      assert.match(textOf(messages(result.events, "toolResult")[0]), /seen-42/);
    });
  }

  test("RPC mode: models, levels, steering, follow-up, image, new session, commands → all work", async () => {
    const pi = rpc();
    for (const level of ["minimal", "low", "medium", "high", "xhigh", "max"]) {
      assert.ok((await pi.command({ type: "set_thinking_level", level }))["success"], level);
    }
    assert.ok((await pi.command({ type: "set_model", provider: "kimi-coding", modelId: "k3" }))["success"]);
    await pi.prompt("one");
    assert.equal(lastBody()["model"], "k3");

    simulator.enqueue(
      { steps: [text("Working"), { pauseMs: 400 }, call("bash", { command: "true" })] },
      { steps: [text("Steered.")] },
      { steps: [text("Followed.")] },
    );
    const from = pi.events.length;
    await pi.command({ type: "prompt", message: "two" });
    await pi.waitFor(({ type }) => type === "message_update", from);
    await pi.command({ type: "steer", message: "turn left" });
    await pi.command({ type: "follow_up", message: "then stop" });
    await pi.waitFor(({ type }) => type === "agent_settled", from);
    assert.deepEqual(messages(pi.events.slice(from)).slice(-2).map(textOf), ["Steered.", "Followed."]);

    const data = realPng(80, 60, "row").toString("base64");
    await pi.prompt("look", { images: [{ type: "image", mimeType: "image/png", data }] });
    assert.match(JSON.stringify(lastBody()), /image_url/);

    assert.ok((await pi.command({ type: "new_session" }))["success"]);
    await pi.prompt("afresh");
    assert.ok(!JSON.stringify(lastBody()).includes("turn left"));
    for (const command of ["/kimi-usage", "/kimi-settings"]) {
      const before = pi.events.length;
      await pi.command({ type: "prompt", message: command });
      const notice = await pi.waitFor((event) => event["method"] === "notify", before);
      assert.match(JSON.stringify(notice), /5-hour window/);
    }
  });

  test("compaction: asked for, and after an overflow → summary, then the prompt again", async () => {
    machine.settings({ compaction: { enabled: true, keepRecentTokens: 500 } });
    const pi = rpc([]);
    await pi.prompt("a long story about sheep: ".repeat(200));
    await pi.prompt("and about goats: ".repeat(200));
    simulator.setDefault({ steps: [text("Summary: sheep.")] });
    const compacted = await pi.command({ type: "compact" });
    assert.ok(compacted["success"], JSON.stringify(compacted));
    await pi.prompt("more about cows: ".repeat(200));
    const message = "Invalid request: Your request exceeded model token limit: 262144 (requested: 300000)";
    simulator.intercept("chat", { status: 400, body: { error: { message, type: "invalid_request_error" } } });
    const events = await pi.prompt("and the end?");
    assert.ok(events.some(({ type }) => type === "compaction_end"));
    assert.equal(messages(events).at(-1)?.stopReason, "stop");
  });

  test("fork and clone: of a conversation → a prompt continues it", async () => {
    const pi = rpc([]);
    await pi.prompt("first");
    await pi.prompt("second");
    const { data } = (await pi.command({ type: "get_fork_messages" })) as unknown as {
      data: { messages: { entryId: string }[] };
    };
    assert.ok((await pi.command({ type: "fork", entryId: data.messages[1]?.entryId }))["success"]);
    await pi.prompt("other second");
    assert.ok(!JSON.stringify(lastBody().messages).includes('"second"'));
    assert.ok((await pi.command({ type: "clone" }))["success"]);
    await pi.prompt("third");
    assert.ok(JSON.stringify(lastBody().messages).includes("other second"));
  });

  for (const dialect of DIALECTS) {
    test(`resume, ${dialect}: three processes with tools → each request extends the one before it`, async () => {
      enableTools();
      const variables = { ...signedIn(), KIMI_CODE_PROTOCOL: dialect };
      simulator.enqueue({ steps: [call("moonshot_search", { query: "kimi" })] });
      for (const prompt of ["one", "two", "three"]) {
        await print([...(prompt === "one" ? [] : ["-c"]), prompt], variables);
      }
      const sent = chats().map((record) => bodyOf<Body>(record));
      assert.equal(sent.length, 4);
      // Anthropic's cache marks move with the end of the conversation.
      const plain = (value: unknown): string => JSON.stringify(value).replaceAll(/,?"cache_control":\{[^}]*\}/g, "");
      for (const [index, body] of sent.slice(1).entries()) {
        const before = sent[index] as Body;
        assert.equal(plain(body.tools), plain(before.tools));
        assert.equal(plain(body.messages.slice(0, before.messages.length)), plain(before.messages));
      }
    });
  }

  test("history of the built-in provider: tools and an image in a result → continued by ours, and back", async () => {
    const base = piLevel() >= 1003 ? `${simulator.baseUrl}/v1` : simulator.baseUrl;
    const models = { providers: { "kimi-coding": { baseUrl: base } } };
    writeFileSync(join(machine.agent, "models.json"), JSON.stringify(models));
    // The stand-in refuses clients that it does not know.
    simulator.settings.identityGate = "off";
    writeFileSync(join(machine.cwd, "dot.png"), realPng(20, 20, "dot"));
    simulator.enqueue({ steps: [think("I read it."), call("read", { path: "dot.png" })] }, { steps: [text("Seen.")] });
    const builtIn = async (args: string[]): Promise<string> => print(args, {}, []);
    assert.equal(await builtIn(["read the image"]), "Seen.");
    for (const extra of [{}, { KIMI_CODE_PROTOCOL: "anthropic" }]) {
      assert.equal(await print(["-c", "go on"], extra), "Hello.");
      assert.match(JSON.stringify(lastBody()), /read the image/);
      assert.match(JSON.stringify(lastBody()), /image/);
    }
    assert.equal(await print(["-c", "--model", "kimi-coding/k3", "other model"]), "Hello.");
    assert.equal(await builtIn(["-c", "and back"]), "Hello.");
  });

  test("image of 5 MB: two processes → one upload, the same file in both requests", async () => {
    const image = join(machine.cwd, "large.png");
    writeFileSync(image, realPng(1500, 1200, "large"));
    for (let round = 0; round < 2; round += 1) await print(["--no-session", `@${image}`, "what is it"]);
    assert.equal(simulator.files.all.length, 1);
    const references = chats().map(({ rawBody }) => /ms:\/\/[^"]+/.exec(rawBody.toString())?.[0]);
    assert.equal(new Set(references).size, 1);
    assert.ok(references[0] !== undefined);
  });

  test("hooks: headers, request, response, stream events → each sees or changes the turn", async () => {
    const report = join(machine.path, "seen.jsonl");
    const spy = file(
      "spy.ts",
      `import { appendFileSync } from "node:fs";
       const note = (x) => appendFileSync(${JSON.stringify(report)}, x + "\\n");
       export default (pi) => {
         pi.on("before_provider_headers", (event) => { event.headers["x-spy"] = "yes"; note("headers"); });
         pi.on("before_provider_request", (event) => { note("request"); return { ...event.payload, user_mark: 7 }; });
         pi.on("after_provider_response", () => note("response"));
         pi.on("provider_stream_event", (event) => note("event " + (event.data.choices ? "chunk" : "other")));
       };`,
    );
    await print(["--no-session", "hi"], {}, [ROOT, spy]);
    const seen = new Set(readFileSync(report, "utf8").trim().split("\n"));
    const expected = ["headers", "request", "response", ...(piLevel() >= 99 ? ["event chunk"] : [])];
    assert.deepEqual([...seen], expected);
    assert.equal(lastBody()["user_mark"], 7);
    assert.equal(chats()[0]?.headers["x-spy"], "yes");
  });
});

/** Reloads and waits until Pi reads keys again. */
async function reload(pi: Terminal): Promise<void> {
  await pi.submit("/reload");
  await pi.waitFor(/Reloaded/);
  await sleep(1000);
}

describe("on a screen", () => {
  test("start, prompt, tool call, /reload, settings, usage, footer → all are shown", async () => {
    const pi = terminal();
    await pi.waitFor(/Kimi 5h/);
    await pi.submit("run: echo seen-$((40+2))");
    simulator.enqueue({ steps: [call("bash", { command: "echo seen-$((40+2))" })] });
    await pi.waitFor(/seen-42/);
    await reload(pi);
    await pi.submit("/kimi-usage");
    await pi.waitFor(/5-hour window/);
    await pi.submit("/kimi-settings");
    await pi.waitFor(/Kimi settings[^]*Changes go to/);
    pi.press("Escape");
    await pi.submit("still there?");
    await pi.waitFor(/Hello\./);
  });

  test("streaming, Escape, /model, resume → as in every provider", async () => {
    const pi = terminal([]);
    await pi.waitFor(/kimi-for-coding/);
    simulator.enqueue({
      steps: [text("Counting: "), { repeat: { kind: "text", count: 3000, text: "sheep ", perSecond: 50 } }],
    });
    await pi.submit("count sheep");
    await pi.waitFor(/Counting: sheep sheep/);
    pi.press("Escape");
    await pi.waitFor(/abort/i);
    await pi.submit("/model kimi-coding/k3 ");
    await pi.waitFor(/k3(?!-)/);
    pi.press("Enter");
    await pi.submit("remember me");
    await pi.waitFor(/Hello\./);
    await kept("Hello.");
    await pi.close();
    const again = terminal(["-c"]);
    await again.waitFor(/remember me[^]*Hello\./);
    await again.submit("and now?");
    await simulator.waitForRequest((record) => record.rawBody.toString().includes("and now?"));
    assert.match(JSON.stringify(lastBody()), /remember me/);
  });

  test("/login and /logout: device flow → a credential, a prompt, and none", async () => {
    simulator.oauth.scripts.push(["authorization_pending", "approve"]);
    const pi = terminal(["--no-session"], machine.variables());
    await pi.waitFor(/kimi-for-coding|No models|no model/i);
    await pi.submit("/login kimi-coding ");
    await pi.waitFor(/Sign in with Kimi Code/, 4000).catch(() => pi.press("Enter"));
    await pi.waitFor(/Sign in with Kimi Code/);
    pi.press("Enter");
    await pi.waitFor(/[0-9A-F]{4}-[0-9A-F]{4}/);
    await pi.waitFor(/logged in|signed in/i);
    assert.equal(machine.pi?.type, "oauth");
    await pi.submit("hi");
    await pi.waitFor(/Hello\./);
    await pi.submit("/logout");
    await pi.waitFor(/provider to log ?out[^]*Kimi/i);
    await sleep(500);
    pi.press("Enter");
    await pi.waitFor(/Logged out|Removed/i);
    assert.equal(machine.pi, undefined);
  });

  test("tools: a search, /reload, another, resume, a third → previews, expanded with ctrl+o", async () => {
    enableTools();
    const variables = env(signedIn());
    const pi = terminal([], variables);
    await pi.waitFor(/kimi-for-coding/);
    simulator.enqueue({ steps: [call("moonshot_search", { query: "first" })] }, { steps: [text("Found it.")] });
    await pi.submit("search");
    await pi.waitFor(/moonshot_search first[^]*to expand[^]*Found it\./);
    pi.press("C-o");
    await pi.waitFor(/news\.ycombinator\.com/);
    await reload(pi);
    simulator.enqueue({ steps: [call("moonshot_search", { query: "second" })] }, { steps: [text("Found more.")] });
    await pi.submit("again");
    await pi.waitFor(/moonshot_search second[^]*Found more\./);
    await kept("Found more.");
    await pi.close();
    const again = terminal(["-c"], variables);
    await again.waitFor(/moonshot_search first[^]*to expand[^]*Found more\./);
    simulator.enqueue({ steps: [call("moonshot_search", { query: "third" })] }, { steps: [text("Found all.")] });
    await again.submit("once more");
    await again.waitFor(/moonshot_search third[^]*to expand[^]*Found all\./);
  });
});

describe("credentials", () => {
  test("credential of `pi auth login`: four members → used", async () => {
    const { access, refresh } = simulator.oauth.login();
    const entry = { type: "oauth", access, refresh, expires: Date.now() + 800_000 };
    writeFileSync(machine.authPath, JSON.stringify({ "kimi-coding": entry }));
    assert.equal(await print(["--no-session", "hi"], { KIMI_API_KEY: undefined }), "Hello.");
    assert.equal(chats()[0]?.headers["authorization"], `Bearer ${access}`);
  });
});

/** Waits until Pi has written a text into its session, which happens after it is on the screen. */
async function kept(text: string): Promise<void> {
  const folder = join(machine.agent, "sessions");
  const isKept = (): boolean =>
    readdirSync(folder, { recursive: true, encoding: "utf8" })
      .filter((name) => name.endsWith(".jsonl"))
      .some((name) => readFileSync(join(folder, name), "utf8").includes(text));
  for (let left = 1500; left > 0 && !isKept(); left -= 1) await sleep(20);
  assert.ok(isKept(), text);
}

/** A server with one tool, `look`, whose schema has a reference and whose result is an image. */
const MCP_SERVER = `
const out = (message) => process.stdout.write(JSON.stringify({ jsonrpc: "2.0", ...message }) + "\\n");
const schema = { type: "object", properties: { at: { $ref: "#/$defs/Place" } }, required: ["at"],
  $defs: { Place: { type: "object", properties: { x: { type: "number" } } } } };
const image = process.env.IMAGE;
require("node:readline").createInterface({ input: process.stdin }).on("line", (line) => {
  const { id, method, params } = JSON.parse(line);
  if (method === "initialize") out({ id, result: { protocolVersion: params.protocolVersion, capabilities: { tools: {} }, serverInfo: { name: "eye", version: "1" } } });
  else if (method === "tools/list") out({ id, result: { tools: [{ name: "look", description: "Looks at a place", inputSchema: schema }] } });
  else if (method === "tools/call") out({ id, result: { content: [{ type: "text", text: "a dot" }, { type: "image", data: image, mimeType: "image/png" }] } });
  else if (id !== undefined) out({ id, result: {} });
});`;

describe("with Pi's own tools", { skip: HAS_MCP ? false : "came with Pi 1.0 to 1.3" }, () => {
  function mcp(exposure: string): void {
    const server = file("server.cjs", MCP_SERVER);
    const data = realPng(20, 20, "mcp").toString("base64");
    const eye = { command: process.execPath, args: [server], env: { IMAGE: data }, exposure };
    writeFileSync(join(machine.agent, "mcp.json"), JSON.stringify({ mcpServers: { eye } }));
  }

  for (const dialect of DIALECTS) {
    test(`MCP, ${dialect}: a direct tool with $ref and an image result → declared, called, sent back`, async () => {
      mcp("direct");
      simulator.enqueue({ steps: [call("mcp__eye__look", { at: { x: 1 } })] });
      assert.equal(
        await print(["--no-session", "look"], { KIMI_CODE_PROTOCOL: dialect }, ["builtin:mcp", ROOT]),
        "Hello.",
      );
      assert.ok(declared(bodyOf<Body>(chats()[0])).includes("mcp__eye__look"));
      assert.match(JSON.stringify(lastBody()), /a dot/);
      assert.match(JSON.stringify(lastBody()), /image/);
    });
  }

  test("tool_search: a deferred MCP tool → found, declared later, called", async () => {
    mcp("deferred");
    simulator.enqueue(
      { steps: [call("tool_search", { query: "look at a place" })] },
      { steps: [call("mcp__eye__look", { at: { x: 1 } })] },
    );
    const extensions = ["builtin:mcp", "builtin:tool-search", ROOT];
    assert.equal(await print(["--no-session", "--tools", "+tool_search", "look"], {}, extensions), "Hello.");
    const sent = chats().map((record) => bodyOf<Body>(record));
    assert.ok(!declared(sent[0] as Body).includes("mcp__eye__look"));
    assert.ok(declared(sent.at(-1) as Body).includes("mcp__eye__look"));
    assert.match(JSON.stringify(sent.at(-1)), /a dot/);
  });

  test("codemode: a script calls our tools → it gets data, not text", async () => {
    enableTools();
    const code = `const { results, total } = await tools.moonshot_search({ query: "kimi" });
      const page = await tools.moonshot_fetch({ url: "https://example.com/" });
      return [total, typeof results[0].url, typeof page.markdown, page.truncated].join(" ");`;
    simulator.enqueue({ steps: [call("codemode", { code, script: code })] });
    const extensions = ["builtin:codemode", ROOT];
    await print(["--no-session", "--tools", "+codemode", "go"], signedIn(), extensions);
    assert.match(JSON.stringify(lastBody().messages.at(-1)), /5 string string false/);
  });

  test("deferred tools: setting exposure → found by tool_search, then called", async () => {
    enableTools({ exposure: "deferred" });
    simulator.enqueue(
      { steps: [call("tool_search", { query: "search the web" })] },
      { steps: [call("moonshot_search", { query: "kimi" })] },
    );
    const extensions = ["builtin:tool-search", ROOT];
    await print(["--no-session", "--tools", "+tool_search", "go"], signedIn(), extensions);
    const sent = chats().map((record) => bodyOf<Body>(record));
    assert.ok(!declared(sent[0] as Body).includes("moonshot_search"));
    assert.ok(declared(sent.at(-1) as Body).includes("moonshot_search"));
    assert.match(JSON.stringify(sent.at(-1)), /Moonshot AI/);
  });

  test("annotations: of our tools → Pi's list has them", async () => {
    enableTools();
    const report = join(machine.path, "tools.json");
    const spy = file(
      "spy.ts",
      `import { writeFileSync } from "node:fs";
       export default (pi) => pi.on("agent_end", () => writeFileSync(${JSON.stringify(report)}, JSON.stringify(pi.getAllTools())));`,
    );
    await print(["--no-session", "hi"], {}, [ROOT, spy]);
    const all = JSON.parse(readFileSync(report, "utf8")) as { name: string; annotations?: Record<string, boolean> }[];
    const hints = (name: string): unknown => all.find((tool) => tool.name === name)?.annotations;
    const reading = { readOnlyHint: true, destructiveHint: false, openWorldHint: true };
    assert.deepEqual(hints("moonshot_search"), reading);
    assert.deepEqual(hints("moonshot_fetch"), reading);
    assert.deepEqual(hints("kimi_datasource"), { readOnlyHint: false, destructiveHint: true, openWorldHint: true });
  });

  test("virtual model: routes to ours → our model answers", async () => {
    const router = file(
      "router.ts",
      `export default (pi) => pi.registerVirtualModel({ provider: "kimi-coding", id: "auto", name: "Auto",
         route: (_request, ctx) => ({ model: ctx.modelRegistry.find("kimi-coding", "k3"), thinkingLevel: "high" }) });`,
    );
    const result = await runPi(["-p", "--no-session", "--model", "kimi-coding/auto", "hi"], {
      home: machine,
      env: env(),
      extensions: [ROOT, router],
    });
    assert.equal(result.stdout.trim(), "Hello.", result.stderr);
    assert.equal(lastBody()["model"], "k3");
  });
});

describe("installed", () => {
  /** Runs one of Pi's own commands. */
  function pi(...args: string[]): void {
    execFileSync(process.execPath, [PI_CLI, ...args], { cwd: machine.cwd, env: machine.env(env()), stdio: "pipe" });
  }

  function isOurs(models: string): boolean {
    // The built-in list of the highspeed model says that it has no other difference; ours caps k3's window without a stored list.
    return /k3\s+262/.test(models);
  }

  async function list(args: string[] = []): Promise<string> {
    const { stdout } = await runPi([...args, "--list-models", "kimi"], {
      home: machine,
      env: env(),
      extensions: "installed",
    });
    return stdout;
  }

  test("folder: install, a turn, remove → ours, then the built-in provider", async () => {
    pi("install", ROOT);
    assert.ok(isOurs(await list()));
    assert.equal(await print(["--no-session", "hi"], {}, "installed"), "Hello.");
    pi("remove", ROOT);
    assert.ok(!isOurs(await list()));
  });

  test("in a project: with --approve → ours, untrusted → the built-in provider", async () => {
    mkdirSync(join(machine.cwd, ".pi"), { recursive: true });
    pi("install", "-l", ROOT, "--approve");
    assert.ok(readdirSync(join(machine.cwd, ".pi")).includes("settings.json"));
    assert.ok(isOurs(await list(["--approve"])));
    assert.ok(!isOurs(await list(["--no-approve"])));
  });
});
