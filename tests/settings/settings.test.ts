/** Settings, live models and quota in real Pi, headless. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { catalogs, ratioView, type Simulator, usageShapes } from "../simulator/index.ts";
import { bodyOf, Home, messages, type PiEvent, RpcPi, runPi } from "../support/pi.ts";
import { withPi } from "../support/with-pi.ts";

let simulator: Simulator;
let home: Home;
const open = withPi((...given) => ([simulator, home] = given));

const MODEL = ["--no-session", "--model", "kimi-coding/kimi-for-coding"];

function env(extra: Record<string, string | undefined> = {}): Record<string, string | undefined> {
  return { KIMI_CODE_BASE_URL: simulator.baseUrl, KIMI_API_KEY: simulator.apiKey, ...extra };
}

function rpc(args: string[] = MODEL, extra: Record<string, string | undefined> = {}): RpcPi {
  return open(args, { home, env: env(extra) });
}

function asked(endpoint: string): number {
  return simulator.requests.filter((request) => request.endpoint === endpoint).length;
}

function write(file: string, content: unknown): void {
  mkdirSync(join(file, ".."), { recursive: true });
  writeFileSync(file, typeof content === "string" ? content : JSON.stringify(content));
}

const homeFile = (): string => join(home.home, ".pi", "pi-provider-kimi-code.json");
const projectFile = (): string => join(home.cwd, ".pi", "pi-provider-kimi-code.json");

interface Listed {
  id: string;
  provider: string;
  contextWindow: number;
}

async function listed(pi: RpcPi): Promise<Listed[]> {
  const { data } = await pi.command({ type: "get_available_models" });
  return (data as { models: Listed[] }).models.filter(({ provider }) => provider === "kimi-coding");
}

const ui = (method: string) => (event: PiEvent) => event.type === "extension_ui_request" && event["method"] === method;

async function until(check: () => Promise<boolean> | boolean, what: string): Promise<void> {
  const end = Date.now() + 30_000;
  while (!(await check())) {
    if (Date.now() > end) throw new Error(`never happened: ${what}`);
    await new Promise((resume) => setTimeout(resume, 50));
  }
}

test("models: list of the service → replaces the built-in one, and is used offline afterwards", async () => {
  simulator.catalog.models = catalogs.nextYear();
  const pi = rpc();
  await until(async () => (await listed(pi)).some(({ id }) => id === "k4-preview"), "the new model in Pi's list");
  const k4 = (await listed(pi)).find(({ id }) => id === "k4-preview");
  assert.equal(k4?.contextWindow, 2_097_152);
  simulator.intercept("models", ...Array.from({ length: 9 }, () => ({ status: 500 })));
  const offline = await runPi(["--list-models", "kimi"], { home, env: env({ KIMI_CODE_BASE_URL: simulator.baseUrl }) });
  assert.match(offline.stdout, /k4-preview/);
});

test("models: removed from the plan → disappears; another deployment → keeps its own list", async () => {
  simulator.catalog.models = catalogs.smallPlan();
  const pi = rpc();
  await until(async () => (await listed(pi)).length === 1, "one model left");
  const elsewhere = await runPi(["--list-models", "kimi"], {
    home,
    env: env({ KIMI_CODE_BASE_URL: "http://127.0.0.1:9/coding" }),
  });
  assert.match(elsewhere.stdout, /k3-256k/);
});

test("models: context window of the service → used by the selected model", async () => {
  simulator.catalog.models = catalogs.smallPlan();
  const pi = rpc();
  const selected = async (): Promise<number> => {
    const { data } = await pi.command({ type: "get_state" });
    return (data as { model: { contextWindow: number } }).model.contextWindow;
  };
  await until(async () => (await selected()) === 262_144, "the plan's window in place of the built-in list's");
});

test("models: list of one account → not shown to another account", async () => {
  simulator.catalog.models = catalogs.smallPlan();
  const pi = rpc();
  await until(async () => (await listed(pi)).length === 1, "one model left");
  const another = await runPi(["--list-models", "kimi"], { home, env: env({ KIMI_API_KEY: "sk-another" }) });
  assert.match(another.stdout, /k3-256k/);
  const same = await runPi(["--list-models", "kimi"], { home, env: env() });
  assert.doesNotMatch(same.stdout, /k3-256k/);
});

test("models: token refreshed → the list is requested again", async () => {
  const tokens = simulator.oauth.login();
  const expiresIn = (seconds: number): void => {
    const { access, refresh } = tokens;
    const entry = { type: "oauth", access, refresh, expires: Date.now() + seconds * 1000 };
    write(join(home.agent, "auth.json"), { "kimi-coding": entry });
  };
  expiresIn(800);
  const pi = rpc(MODEL, { KIMI_API_KEY: undefined, KIMI_CODE_OAUTH_HOST: simulator.oauthHost });
  await until(() => asked("models") > 0, "the question of the session's start");
  simulator.catalog.models = catalogs.smallPlan();
  expiresIn(10);
  await pi.prompt("hello");
  await until(async () => (await listed(pi)).length === 1, "the list of the smaller plan");
});

test("models: hostile entries → only they are skipped", async () => {
  simulator.catalog.models = catalogs.hostile(10_000_000);
  const pi = rpc();
  await until(async () => (await listed(pi)).some(({ id }) => id === "big-name"), "the list");
  assert.deepEqual((await listed(pi)).map(({ id }) => id).sort(), ["big-name", "k3"]);
});

test("models: slow or failing service → no delay, the last list stays", async () => {
  simulator.intercept("models", { delayMs: 20_000, status: 200, body: "{}" });
  const pi = rpc();
  const models = await listed(pi);
  assert.ok(models.length >= 4);
  const events = await pi.prompt("hello");
  assert.equal(messages(events).at(-1)?.stopReason, "stop");
});

test("models: RPC mode announces a session twice → one request", async () => {
  // A default answer would serve both.
  simulator.intercept("models", ...Array.from({ length: 20 }, () => ({ status: 500 })));
  const pi = rpc();
  for (let sessions = 1; sessions <= 8; sessions += 1) {
    await until(() => asked("models") >= sessions, "the question of the session's start");
    await pi.prompt("hello");
    assert.equal(asked("models"), sessions);
    await pi.command({ type: "new_session" });
  }
});

test("startup: --list-models → no request to the service", async () => {
  const result = await runPi(["--list-models", "kimi"], { home, env: env() });
  assert.match(result.stdout, /kimi-for-coding/);
  assert.equal(simulator.requests.length, 0);
});

test("settings file: problems → each reported once, the rest applies", async () => {
  write(homeFile(), { statusLine: "yes", retry: { attempts: 3 }, model: { topP: 0.5 }, colour: 1 });
  const pi = rpc();
  const said = await pi.waitFor(ui("notify"));
  assert.match(String(said["message"]), /pi-provider-kimi-code\.json: statusLine is "yes", expected true or false/);
  assert.match(String(said["message"]), /colour is not a setting/);
  await pi.prompt("hello");
  const body = simulator.requests.find(({ endpoint }) => endpoint === "chat")?.json as { top_p?: number };
  assert.equal(body.top_p, 0.5);
  assert.equal(pi.events.filter(ui("notify")).filter((event) => /settings:/.test(String(event["message"]))).length, 1);
});

test("settings file: problems without a screen → reported on stderr, stdout keeps the answer only", async () => {
  write(homeFile(), { statusLine: "yes" });
  const args = ["-p", "--no-session", "--model", "kimi-coding/kimi-for-coding", "hello"];
  const { stdout, stderr } = await runPi(args, { home, env: env() });
  assert.match(stderr, /Warning: Kimi settings:\n.*statusLine is "yes", expected true or false/);
  assert.doesNotMatch(stdout, /settings/);
});

interface Capped {
  max_completion_tokens?: number;
}

test("project settings: untrusted → ignored; trusted → cannot choose hosts", async () => {
  write(projectFile(), {
    model: { maxCompletionTokens: 1234 },
    baseUrl: "http://127.0.0.1:9/coding",
    identity: "kimi-code",
  });
  mkdirSync(join(home.cwd, ".pi", "extensions"), { recursive: true });
  const untrusted = rpc();
  const note = await untrusted.waitFor(ui("notify"));
  assert.match(String(note["message"]), /is ignored, because Pi does not trust this project/);
  await untrusted.prompt("hello");
  const trusted = rpc(["--approve", ...MODEL], { KIMI_CODE_BASE_URL: undefined, KIMI_BASE_URL: simulator.baseUrl });
  const warning = await trusted.waitFor(ui("notify"));
  assert.match(String(warning["message"]), /baseUrl counts only in the home file/);
  await trusted.prompt("hello");
  const bodies = simulator.requests.filter(({ endpoint }) => endpoint === "chat");
  assert.equal(bodyOf<Capped>(bodies[0]).max_completion_tokens === 1234, false);
  assert.equal(bodyOf<Capped>(bodies.at(-1)).max_completion_tokens, 1234);
  assert.match(bodies.at(-1)?.headers["user-agent"] ?? "", /^pi\//);
});

test("settings command: a change → applies from the next request and is written to the file", async () => {
  write(homeFile(), '{\n  "mine": [1],\n  "retry": { "attempts": 7 }\n}\n');
  const pi = rpc();
  const say = async (command: string): Promise<string> => {
    const from = pi.events.length;
    await pi.command({ type: "prompt", message: command });
    return String((await pi.waitFor(ui("notify"), from))["message"]);
  };
  await pi.waitFor(ui("notify"));
  assert.match(await say("/kimi-settings model.topP 0.75"), /model\.topP = 0\.75 \(.*pi-provider-kimi-code\.json\)/);
  assert.match(
    await say("/kimi-settings statusLine perhaps"),
    /statusLine cannot be "perhaps", expected true or false/,
  );
  assert.match(await say("/kimi-settings uploads.thresholdBytes 2 MiB"), /uploads\.thresholdBytes = 2 MiB/);
  assert.match(await say("/kimi-settings models.k3.1-pro.topP"), /models\.k3\.1-pro\.topP = not set \(default\)/);
  assert.match(await say("/kimi-settings models.k3.1-pro.topP 0.5"), /models\.k3\.1-pro\.topP = 0\.5 \(/);
  assert.match(await say("/kimi-settings quota.reserve.5h 5"), /quota\.reserve\.5h = 5(\.0)? \(/);
  assert.match(await say("/kimi-settings quota.reserve.WK 10"), /quota\.reserve\.7d = 10(\.0)? \(/);
  assert.match(await say("/kimi-settings quota.reserve.week"), /quota\.reserve\.7d = 10(\.0)? \(/);
  assert.match(
    await say("/kimi-settings quota.reserve.weekend 5"),
    /quota\.reserve\.weekend names no quota window \(known: 5h, 7d or wk, month or mo\)/,
  );
  assert.match(await say("/kimi-settings models.*.topP 0.5"), /Put a name in place of \*/);
  assert.match(await say("/kimi-settings models.k3.size 1"), /models\.k3\.size is not a setting\. Known: /);
  await pi.prompt("hello");
  const body = simulator.requests.find(({ endpoint }) => endpoint === "chat")?.json as { top_p?: number };
  assert.equal(body.top_p, 0.75);
  const file = JSON.parse(readFileSync(homeFile(), "utf8")) as Record<string, unknown>;
  assert.deepEqual(file, {
    mine: [1],
    retry: { attempts: 7 },
    model: { topP: 0.75 },
    uploads: { thresholdBytes: "2 MiB" },
    models: { "k3.1-pro": { topP: 0.5 } },
    quota: { reserve: { "5h": 5, "7d": 10 } },
  });
});

test("quota: footer → shown, and hidden by its setting", async () => {
  simulator.plan.usage = () => ratioView({ fiveHours: 0.62, week: 0.18 });
  const pi = rpc();
  const status = await pi.waitFor((event) => ui("setStatus")(event) && event["statusText"] !== undefined);
  assert.match(String(status["statusText"]), /^Kimi 5h 62% · wk 18% · resets (\w{3} )?\d\d:\d\d$/);
  const from = pi.events.length;
  await pi.command({ type: "prompt", message: "/kimi-settings statusLine off" });
  await pi.prompt("hello");
  const line = (event: PiEvent): boolean => ui("setStatus")(event) && event["statusKey"] === status["statusKey"];
  await pi.waitFor((event) => line(event) && event["statusText"] === undefined, from);
  assert.equal(pi.events.findLast(line)?.["statusText"], undefined, "and it stays away");
});

test("quota: two processes → one request, none after each turn", async () => {
  simulator.intercept("usages", { delayMs: 300 });
  const pair = [rpc(), rpc()];
  const shows = (event: PiEvent): boolean => ui("setStatus")(event) && event["statusText"] !== undefined;
  await Promise.all(pair.map((pi) => pi.waitFor(shows)));
  await Promise.all(pair.map((pi) => pi.prompt("hello")));
  await pair[0]?.prompt("hello again");
  assert.equal(asked("usages"), 1);
  const state = join(home.home, ".pi", "pi-provider-kimi-code");
  const kept = readdirSync(state).filter((name) => name.startsWith("usage-"));
  assert.equal(kept.length, 1);
  assert.ok(!readFileSync(join(state, kept[0] ?? ""), "utf8").includes(simulator.apiKey));
});

test("quota: plan without an answer → no footer, no delay", async () => {
  simulator.intercept("usages", { status: 500 }, { status: 500 });
  const pi = rpc();
  const events = await pi.prompt("hello");
  assert.equal(messages(events).at(-1)?.stopReason, "stop");
  assert.ok(!pi.events.some((event) => ui("setStatus")(event) && event["statusText"] !== undefined));
});

test("/kimi-usage → text for users, JSON for scripts", async () => {
  const text = await runPi(["-p", ...MODEL, "/kimi-usage"], { home, env: env() });
  assert.match(text.stdout, /Simulated User · Allegretto \(Lv 20\) · sim@example\.invalid/);
  assert.match(text.stdout, /5-hour window +█+[▏▎▍▌▋▊▉]?░+ +9% used {2}resets .*\(in (3 h|2 h \d\d min)\)/);
  assert.match(text.stdout, /Monthly window.*31% used[^]*kimi 10% · code 21%/);
  assert.match(text.stdout, /Extra usage {2}¥12\.35 left · ¥7\.66 of ¥50\.00 this month/);
  const json = await runPi(["-p", ...MODEL, "/kimi-usage --json"], { home, env: env() });
  const { account, quota } = JSON.parse(json.stdout) as {
    account: { plan: string };
    quota: { usage: { windows: { id: string; usedRatio: number }[] } };
  };
  assert.equal(account.plan, "Allegretto");
  assert.deepEqual(
    quota.usage.windows.map(({ id, usedRatio }) => [id, usedRatio]),
    [
      ["5h", 0.09],
      ["7d", 0.13],
      ["month", 0.31],
    ],
  );
  assert.equal(asked("chat"), 0);
});

test("quota: every known form → shown or reported as missing, never an exception", async () => {
  const pi = rpc();
  await listed(pi);
  for (const [name, shape] of Object.entries(usageShapes)) {
    simulator.plan.usage = shape;
    const from = pi.events.length;
    await pi.command({ type: "prompt", message: "/kimi-usage" });
    const text = String((await pi.waitFor(ui("notify"), from))["message"]);
    assert.match(text, /% used|No usage data|the usage answer is no object|As of/, name);
    assert.doesNotMatch(text, /undefined|NaN|\[object|TypeError/, name);
  }
});

test("/kimi-settings without a screen → account, quota and every setting", async () => {
  const { stdout } = await runPi(["-p", ...MODEL, "/kimi-settings"], { home, env: env() });
  assert.match(stdout, /Simulated User/);
  assert.match(stdout, /protocol = openai/);
  assert.match(stdout, /baseUrl = http:\/\/127\.0\.0\.1:\d+\/coding {2}\(environment variable KIMI_CODE_BASE_URL\)/);
  assert.match(stdout, /uploads\.thresholdBytes = 1 MiB/);
  assert.ok(!existsSync(homeFile()), "looking changes nothing");
});

// The session ends while the tool's code is being loaded.
test("/kimi-settings in print mode, a tool enabled → written, and Pi ends well", async () => {
  const command = "/kimi-settings tools.moonshot_search.enabled true";
  const { code, stdout, stderr } = await runPi(["-p", ...MODEL, command], { home, env: env() });
  assert.deepEqual([code, stderr], [0, ""]);
  assert.match(stdout, /tools\.moonshot_search\.enabled = on/);
  assert.match(readFileSync(homeFile(), "utf8"), /"moonshot_search": \{\s+"enabled": true/);
});

test("quota error → names the window and its reset time, once", async () => {
  simulator.plan.usage = () => ratioView({ fiveHours: 1 });
  const body = {
    error: { message: "You've reached your usage limit for this billing cycle", type: "access_terminated_error" },
  };
  simulator.enqueue({ http: { status: 403, body } });
  const pi = rpc(MODEL, { TZ: "Asia/Shanghai" });
  const settled = pi.prompt("hello");
  pi.choose(await pi.waitFor(ui("select")), "Stop");
  const message = messages(await settled).at(-1);
  assert.equal(message?.stopReason, "error");
  assert.match(
    message.errorMessage ?? "",
    /^quota exceeded: 5-hour window is used up, opens (\w{3} )?\d\d:\d\d \(in (3 h|2 h \d\d min)\) \(403 You've reached/,
  );
  assert.equal(asked("chat"), 1);
});

test("factory settings → take precedence over files and environment", async () => {
  const extension = join(home.path, "extension.ts");
  write(
    extension,
    `import { KimiCode } from ${JSON.stringify(join(import.meta.dirname, "..", "..", "index.ts"))};\nexport default KimiCode({ model: { topP: 0.125 } });\n`,
  );
  await runPi(["-p", ...MODEL, "hello"], { home, env: env({ KIMI_MODEL_TOP_P: "0.9" }), extensions: [extension] });
  const body = simulator.requests.find(({ endpoint }) => endpoint === "chat")?.json as { top_p?: number };
  assert.equal(body.top_p, 0.125);
});
