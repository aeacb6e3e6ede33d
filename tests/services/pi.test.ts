/** Kimi's tools in real Pi: switched on and off, called by the model, contents of the next request, failures. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { call, type Simulator, text } from "../simulator/index.ts";
import type { JsonObject } from "../simulator/json.ts";
import { bodyOf, Home, type PiEvent, ROOT, RpcPi, runPi } from "../support/pi.ts";
import { withPi } from "../support/with-pi.ts";

const TOOLS = ["moonshot_search", "moonshot_fetch", "kimi_datasource"];
const MODEL = ["--no-session", "--model", "kimi-coding/kimi-for-coding"];

let simulator: Simulator;
let home: Home;
const open = withPi((...given) => ([simulator, home] = given));

function logIn(): void {
  const { access, refresh } = simulator.oauth.login();
  const entry = { type: "oauth", access, refresh, expires: Date.now() + 900_000 };
  writeFileSync(join(home.agent, "auth.json"), JSON.stringify({ "kimi-coding": entry }));
}

function enable(...names: string[]): void {
  mkdirSync(join(home.home, ".pi"), { recursive: true });
  const tools = Object.fromEntries(names.map((name) => [name, { enabled: true }]));
  writeFileSync(join(home.home, ".pi", "pi-provider-kimi-code.json"), JSON.stringify({ tools }));
}

function env(extra: Record<string, string> = {}): Record<string, string> {
  return { KIMI_CODE_BASE_URL: simulator.baseUrl, KIMI_CODE_OAUTH_HOST: simulator.oauthHost, ...extra };
}

function rpc(extensions = [ROOT]): RpcPi {
  return open(MODEL, { home, env: env(), extensions });
}

/** Makes the model call a tool once and then answer; returns Pi's events. */
async function toolTurn(name: string, args: JsonObject, extra: Record<string, string> = {}): Promise<PiEvent[]> {
  simulator.enqueue({ steps: [call(name, args)] }, { steps: [text("Done.")] });
  const result = await runPi(["--mode", "json", ...MODEL, "go"], { home, env: env(extra) });
  assert.equal(result.stderr, "");
  return result.events;
}

interface Chat {
  tools?: { function: { name: string; parameters: unknown; description: string } }[];
  messages: { role: string; content: unknown }[];
}

function chats(): Chat[] {
  return simulator.requests.filter(({ endpoint }) => endpoint === "chat").map((record) => bodyOf<Chat>(record));
}

/** Which of Kimi's tools the n-th chat request offers. */
function offered(request: Chat | undefined): string[] {
  return (request?.tools ?? []).map((tool) => tool.function.name).filter((name) => TOOLS.includes(name));
}

function answerOf(events: PiEvent[]): { isError: boolean; text: string; details: Record<string, unknown> } {
  const end = events.find((event) => event.type === "tool_execution_end") as unknown as {
    isError: boolean;
    result: { content: { text: string }[]; details: Record<string, unknown> };
  };
  assert.ok(end, "a tool ran");
  return { isError: end.isError, text: end.result.content[0]?.text ?? "", details: end.result.details };
}

/** What the model reads as the result of its call. */
function told(): string {
  const message = chats().at(-1)?.messages.at(-1);
  assert.equal(message?.role, "tool");
  const { content } = message;
  const parts = Array.isArray(content) ? (content as { text: string }[]).map((part) => part.text) : [content];
  return parts.join("");
}

describe("Kimi's tools in Pi: selection", () => {
  test("default → none", async () => {
    logIn();
    simulator.enqueue({ steps: [text("hi")] });
    await runPi(["-p", ...MODEL, "hi"], { home, env: env() });
    assert.equal(chats().length, 1);
    assert.ok(!TOOLS.some((name) => JSON.stringify(chats()[0]).includes(name)));
  });

  test("settings → the named ones, each with its line in the prompt", async () => {
    logIn();
    enable(...TOOLS);
    simulator.enqueue({ steps: [text("hi")] });
    const result = await runPi(["-p", ...MODEL, "hi"], { home, env: env() });
    assert.deepEqual([result.stdout.trim(), result.stderr], ["hi", ""]);
    assert.deepEqual(offered(chats()[0]), TOOLS);
    const prompt = JSON.stringify(chats()[0]?.messages[0]);
    for (const name of TOOLS) assert.match(prompt, new RegExp(`- ${name}: `));
    assert.match(prompt, /never guess API names/);
  });

  test("/kimi-settings → takes effect within the session; an unchanged value → no effect", async () => {
    logIn();
    const pi = rpc();
    const seen: string[][] = [];
    for (const change of [
      "",
      "tools.moonshot_search.enabled on",
      "tools.kimi_datasource.enabled on",
      "tools.kimi_datasource.default_collapsed off",
      "tools.moonshot_search.enabled off",
      "tools.kimi_datasource.enabled off",
      "tools.moonshot_search.enabled on",
    ]) {
      if (change !== "") await pi.command({ type: "prompt", message: `/kimi-settings ${change}` });
      simulator.enqueue({ steps: [text("ok")] });
      await pi.prompt("hi");
      seen.push(offered(chats().at(-1)));
    }
    const both = ["moonshot_search", "kimi_datasource"];
    assert.deepEqual(seen, [[], ["moonshot_search"], both, both, ["kimi_datasource"], [], ["moonshot_search"]]);
    // The rest of the session is unchanged: the same command works in the next one.
    await pi.command({ type: "new_session" });
    await pi.command({ type: "prompt", message: "/kimi-settings tools.moonshot_fetch.enabled on" });
    simulator.enqueue({ steps: [text("ok")] });
    await pi.prompt("hi");
    assert.deepEqual(offered(chats().at(-1)), ["moonshot_search", "moonshot_fetch"]);
    assert.equal(pi.stderr, "");
  });

  test("project settings → only in a trusted project", async () => {
    logIn();
    mkdirSync(join(home.cwd, ".pi"));
    const file = join(home.cwd, ".pi", "pi-provider-kimi-code.json");
    writeFileSync(file, JSON.stringify({ tools: { moonshot_fetch: { enabled: true } } }));
    for (const [trust, tools] of [
      ["--approve", ["moonshot_fetch"]],
      ["-na", []],
    ] as const) {
      simulator.enqueue({ steps: [text("hi")] });
      await runPi(["-p", ...MODEL, trust, "hi"], { home, env: env() });
      assert.deepEqual(offered(chats().at(-1)), tools, trust);
    }
  });

  test("Pi's own tool selection → takes precedence over the settings", async () => {
    logIn();
    enable(...TOOLS);
    simulator.enqueue({ steps: [text("hi")] });
    await runPi(["-p", ...MODEL, "--tools", "read", "hi"], { home, env: env() });
    assert.deepEqual(offered(chats()[0]), []);
  });
});

describe("Kimi's tools in Pi: a call", () => {
  test("search → sent under its call id, the result goes to the model", async () => {
    logIn();
    enable("moonshot_search");
    const events = await toolTurn("moonshot_search", { query: "kimi k3" });
    const { isError, details } = answerOf(events);
    assert.equal(isError, false);
    const request = simulator.requests.find(({ endpoint }) => endpoint === "search");
    assert.deepEqual(request?.json, { text_query: "kimi k3" });
    const id = events.find((event) => event.type === "tool_execution_start")?.["toolCallId"];
    assert.equal(request?.headers["x-msh-tool-call-id"], id);
    const content = told();
    assert.match(content, /^Title: What is new about kimi k3\nSite: Moonshot AI/);
    assert.equal((details["results"] as unknown[]).length, 5);
  });

  test("fetch → the page; a huge one → truncated where Pi truncates, with a note", async () => {
    logIn();
    enable("moonshot_fetch");
    await toolTurn("moonshot_fetch", { url: "https://example.com/x" });
    assert.match(told(), /^# Simulated page\n\nContent of https:\/\/example\.com\/x\.\n/);
    const { details } = answerOf(await toolTurn("moonshot_fetch", { url: "https://example.com/[[huge]]" }));
    const content = told();
    assert.ok(Buffer.byteLength(content) < 52_000, `${content.length}`);
    assert.match(
      content,
      /\n\n\[Output truncated: \d+ of \d+ lines \(.*KB of 5\.\dMB\) shown\. Full output saved to: .+\.md\]$/,
    );
    assert.ok(Buffer.byteLength(JSON.stringify(details)) < 1000, "a session file does not grow by the page");
    assert.ok(readFileSync(String(details["fullOutputPath"]), "utf8").length > 1_000_000);
  });

  test("data source → its file is written inside the project only", async () => {
    logIn();
    enable("kimi_datasource");
    const params = { query: "kimi", file_path: "out.csv" };
    await toolTurn("kimi_datasource", { data_source_name: "arxiv", api_name: "arxiv_search", params });
    assert.match(told(), /data_preview:.*Files:\n- out\.csv \(62B\) written\n\n\[kimi-datasource\] request-id: req-/s);
    assert.match(readFileSync(join(home.cwd, "out.csv"), "utf8"), /^date,open/);
    await toolTurn("kimi_datasource", { data_source_name: "arxiv", api_name: "sim_escape", params });
    assert.match(told(), /- \.\.\/outside\.csv \(62B\) not written: /);
  });

  test("params as JSON text → accepted", async () => {
    logIn();
    enable("kimi_datasource");
    const params = JSON.stringify({ query: "银行" });
    await toolTurn("kimi_datasource", { data_source_name: "gildata", api_name: "demo_api", params });
    const request = simulator.requests.find(({ endpoint }) => endpoint === "tools");
    assert.deepEqual(bodyOf<{ params: { params: unknown } }>(request).params.params, { query: "银行" });
  });

  test("abort → stops the call and closes the connection", async () => {
    logIn();
    enable("moonshot_fetch");
    const pi = rpc();
    simulator.enqueue({ steps: [call("moonshot_fetch", { url: "https://example.com/[[slow:30000]]" })] });
    const from = pi.events.length;
    await pi.command({ type: "prompt", message: "go" });
    const request = await simulator.waitForRequest(({ endpoint }) => endpoint === "fetch", 30_000);
    await pi.command({ type: "abort" });
    await pi.waitFor((event) => event.type === "agent_settled", from);
    await simulator.waitForRequest(({ id, aborted }) => id === request.id && aborted);
  });
});

describe("Kimi's tools in Pi: API key", () => {
  test("key stored in Pi, login of the official client → search works with the login", async () => {
    enable("moonshot_search");
    writeFileSync(
      join(home.agent, "auth.json"),
      JSON.stringify({ "kimi-coding": { type: "api_key", key: simulator.apiKey } }),
    );
    const { access, refresh } = simulator.oauth.login();
    const hosts = { oauthHost: simulator.oauthHost, baseUrl: `${simulator.baseUrl}/v1` };
    const scope = createHash("sha256").update(JSON.stringify(hosts)).digest("hex").slice(0, 16);
    const credentials = join(home.home, ".kimi-code", "credentials");
    mkdirSync(credentials, { recursive: true });
    const expires_at = Math.floor(Date.now() / 1000) + 900;
    const login = { access_token: access, refresh_token: refresh, expires_at, expires_in: 900 };
    writeFileSync(join(credentials, `kimi-code-env-${scope}.json`), JSON.stringify(login));
    const { isError, text: said } = answerOf(await toolTurn("moonshot_search", { query: "kimi" }));
    assert.equal(isError, false, said);
    const sent = (endpoint: string): unknown =>
      simulator.requests.find((request) => request.endpoint === endpoint)?.headers["authorization"];
    assert.equal(sent("search"), `Bearer ${access}`);
    assert.equal(sent("chat"), `Bearer ${simulator.apiKey}`);
  });
});

describe("Kimi's tools in Pi: failures → marked as errors, with the reason", () => {
  test("session with an API key only", async () => {
    enable("moonshot_search");
    const { isError, text: said } = answerOf(
      await toolTurn("moonshot_search", { query: "kimi" }, { KIMI_API_KEY: simulator.apiKey }),
    );
    assert.equal(isError, true);
    assert.match(said, /needs a Kimi Code login; an API key is not enough\. Sign in with \/login kimi-coding\./);
    assert.equal(told(), said);
    assert.ok(!simulator.requests.some(({ endpoint }) => endpoint === "search"));
  });

  test("every invalid input, in one session", async () => {
    logIn();
    enable(...TOOLS);
    const pi = rpc();
    const cases: [tool: string, args: JsonObject, complaint: RegExp][] = [
      ["moonshot_search", { query: "" }, /the query is empty/],
      ["moonshot_search", { query: "x".repeat(102_400) }, /at most 4000/],
      ["moonshot_fetch", { url: "no" }, /is not a URL/],
      ["moonshot_fetch", { url: "file:///etc/passwd" }, /not file:/],
      ["moonshot_fetch", { url: "http://localhost:1/" }, /^Moonshot fetch failed: 400 .*not public/],
      ["kimi_datasource", { data_source_name: "x" }, /no data source "x"; there are .*caixin/],
      ["kimi_datasource", { data_source_name: "arxiv", api_name: "a", params: [1] }, /params/],
      ["kimi_datasource", { data_source_name: "arxiv", api_name: "a" }, /API_NOT_FOUND.*tool-call-id: /s],
    ];
    for (const [tool, args, complaint] of cases) {
      simulator.enqueue({ steps: [call(tool, args)] }, { steps: [text("Done.")] });
      const { isError, text: said } = answerOf(await pi.prompt("go"));
      assert.equal(isError, true, said);
      assert.match(said, complaint);
      assert.equal(told(), said);
    }
  });

  test("plan without the tool", async () => {
    logIn();
    enable("moonshot_search");
    const message = "Your current subscription does not have access to web search.";
    simulator.intercept("search", { status: 402, body: { error: { message } } });
    const { isError, text: said } = answerOf(await toolTurn("moonshot_search", { query: "kimi" }));
    assert.equal(isError, true);
    assert.ok(said.startsWith(`Moonshot search failed: 402 ${message}`), said);
  });
});
