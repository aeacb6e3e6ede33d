/** Used-up quota windows in real Pi: print mode, RPC, and a screen with dialog, footer and keys. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { type PlanWindow, PlanWindows, type Simulator } from "../simulator/index.ts";
import { type Home, messages, type PiEvent, type RpcPi, runPi, textOf } from "../support/pi.ts";
import { fiveHours } from "../support/plan.ts";
import { Terminal } from "../support/terminal.ts";
import { withPi } from "../support/with-pi.ts";

const MODEL = ["--no-session", "--model", "kimi-coding/kimi-for-coding"];

const HOUR = 3_600_000;

/** When a window opens that a test waits for: late enough for a slow machine to meet it used up. */
const OPENS_MS = 25_000;

/** A window that opens in time, and the longest pause after it, on a busy machine. */
const PATIENCE_MS = 150_000;

/** The goal is 200 ms. This is for a busy machine, and far below any pause of ours. */
const ABORTED_WITHIN_MS = 3_000;

const CHOICES = ["Wait, and continue by itself", "Stop", "Always wait"];

let simulator: Simulator;
let home: Home;
const open = withPi((...given) => {
  [simulator, home] = given;
  simulator.setDefault({ steps: [{ text: "Hello." }] });
});

/** Gives every account a 5-hour window. */
function window(opensInMs: number, more: Partial<PlanWindow> = {}): void {
  simulator.plan.windows = new PlanWindows(() => [fiveHours(opensInMs, more)]);
}

function env(extra: Record<string, string | undefined> = {}): Record<string, string | undefined> {
  return { KIMI_CODE_BASE_URL: simulator.baseUrl, KIMI_API_KEY: simulator.apiKey, ...extra };
}

function rpc(extra: Record<string, string | undefined> = {}): RpcPi {
  return open(MODEL, { home, env: env(extra) });
}

function chats(): number {
  return simulator.requests.filter(({ endpoint }) => endpoint === "chat").length;
}

const ui = (method: string) => (event: PiEvent) => event.type === "extension_ui_request" && event["method"] === method;

const status = (pattern: RegExp) => (event: PiEvent) =>
  ui("setStatus")(event) && pattern.test(String(event["statusText"]));

/** Runs a command of the extension and returns what it says. */
async function said(pi: RpcPi, command: string): Promise<string> {
  const from = pi.events.length;
  await pi.command({ type: "prompt", message: command });
  return String((await pi.waitFor(ui("notify"), from))["message"]);
}

describe("print mode", () => {
  test("window is used up → fails at once, with window and time", async () => {
    window(HOUR);
    const { code, stdout, stderr } = await runPi(["-p", ...MODEL, "hi"], { home, env: env() });
    assert.deepEqual([code, stdout], [1, ""]);
    assert.match(stderr, /5-hour window is used up, opens [\w ]*\d\d:\d\d \(in /);
    assert.equal(chats(), 1);
  });

  test("KIMI_CODE_QUOTA=wait → says on stderr what it waits for, and answers after the reset", async () => {
    window(OPENS_MS);
    const options = { home, env: env({ KIMI_CODE_QUOTA: "wait" }), timeoutMs: PATIENCE_MS };
    const { code, stdout, stderr } = await runPi(["-p", ...MODEL, "hi"], options);
    assert.deepEqual([code, stdout.trim()], [0, "Hello."], stderr);
    assert.match(stderr, /^Kimi 5h full · continues [\w ]*\d\d:\d\d \(in \d+ s\)\n$/);
    assert.equal(chats(), 2);
  });

  test("quota.onExhausted is ask → no one can answer, so it fails", async () => {
    window(HOUR);
    const { code } = await runPi(["-p", ...MODEL, "hi"], { home, env: env({ KIMI_CODE_QUOTA: "ask" }) });
    assert.deepEqual([code, chats()], [1, 1]);
  });
});

describe("RPC mode", () => {
  test("a window → one dialog with three choices; wait → status, then the answer, no error and no retry of Pi", async () => {
    window(OPENS_MS);
    const pi = rpc();
    await pi.command({ type: "prompt", message: "hi" });
    const dialog = await pi.waitFor(ui("select"));
    assert.deepEqual(dialog["options"], CHOICES);
    assert.match(String(dialog["title"]), /^Kimi: 5-hour window is used up, opens [\w ]*\d\d:\d\d \(in .+\)$/);
    pi.choose(dialog, "Wait, and continue by itself");
    await pi.waitFor(status(/^Kimi 5h full · continues [\w ]*\d\d:\d\d \(in \d+ s\)$/));
    await pi.waitFor((event) => event.type === "agent_settled", 0, PATIENCE_MS);
    const { events } = pi;
    assert.equal(textOf(messages(events).at(-1)), "Hello.");
    assert.equal(messages(events).length, 1);
    assert.ok(!events.some(({ type }) => type === "extension_error" || type === "auto_retry_start"));
    assert.equal(events.filter(ui("select")).length, 1);
    assert.equal(chats(), 2);
  });

  test("dialog is left, or stop → the error of before, and the next request is not asked about", async () => {
    window(HOUR);
    const pi = rpc();
    for (const asked of [true, false]) {
      const from = pi.events.length;
      const settled = pi.prompt("hi");
      if (asked) pi.choose(await pi.waitFor(ui("select")));
      const [message] = messages(await settled);
      assert.equal(message?.stopReason, "error");
      assert.match(message?.errorMessage ?? "", /5-hour window is used up/);
      assert.equal(pi.events.slice(from).filter(ui("select")).length, asked ? 1 : 0);
    }
  });

  test("always wait → the setting is written, other sessions wait without a question", async () => {
    window(HOUR);
    const pi = rpc();
    void pi.command({ type: "prompt", message: "hi" });
    pi.choose(await pi.waitFor(ui("select")), "Always wait");
    await pi.waitFor(status(/Kimi 5h full/));
    const file = join(home.home, ".pi", "pi-provider-kimi-code.json");
    const { quota } = JSON.parse(readFileSync(file, "utf8")) as { quota: unknown };
    assert.deepEqual(quota, { onExhausted: "wait" });
    const other = rpc();
    void other.command({ type: "prompt", message: "hi" });
    await other.waitFor(status(/Kimi 5h full/));
    assert.ok(!other.events.some(ui("select")));
  });

  test("two sessions at one window → one dialog, whose answer counts for both", async () => {
    window(HOUR);
    const both = [rpc(), rpc()];
    for (const pi of both) void pi.command({ type: "prompt", message: "hi" });
    const asked = await Promise.any(both.map((pi) => pi.waitFor(ui("select")).then((dialog) => ({ pi, dialog }))));
    asked.pi.choose(asked.dialog, "Wait, and continue by itself");
    for (const pi of both) await pi.waitFor(status(/Kimi 5h full/));
    assert.equal(both.flatMap(({ events }) => events).filter(ui("select")).length, 1);
  });

  test("abort while parked, and while asked → aborted, dialog gone, nothing is sent", async () => {
    window(HOUR);
    const pi = rpc();
    for (const choice of [undefined, "Wait, and continue by itself"]) {
      const from = pi.events.length;
      const settled = pi.prompt("hi");
      const dialog = await pi.waitFor(ui("select"), from);
      if (choice !== undefined) {
        pi.choose(dialog, choice);
        await pi.waitFor(status(/Kimi 5h full/), from);
      }
      await pi.command({ type: "abort" });
      assert.equal(messages(await settled).at(-1)?.stopReason, "aborted");
    }
    assert.equal(chats(), 2);
  });

  test("/kimi-quota → state, stop, resume, and what is wrong", async () => {
    window(HOUR);
    const pi = rpc({ KIMI_CODE_QUOTA: "wait" });
    assert.equal(await said(pi, "/kimi-quota"), "No request waits for a quota window.");
    assert.equal(await said(pi, "/kimi-quota maybe"), "Usage: /kimi-quota [wait|stop|resume] [--json]");
    const waiting = pi.prompt("hi");
    await pi.waitFor(status(/Kimi 5h full/));
    const state = JSON.parse(await said(pi, "/kimi-quota --json")) as Record<string, unknown>;
    assert.deepEqual(Object.keys(state).sort(), ["resetsAt", "sessions", "since", "state", "window"]);
    assert.deepEqual([state["state"], state["window"], state["sessions"]], ["parked", "5h", 1]);
    assert.match(
      await said(pi, "/kimi-quota"),
      /^1 request waits since [\w ]*\d\d:\d\d: 5-hour window is used up, opens /,
    );
    // Still full, so it goes on waiting.
    const asked = simulator.requests.filter(({ endpoint }) => endpoint === "usages").length;
    assert.equal(await said(pi, "/kimi-quota resume"), "1 request tries again now.");
    await simulator.waitForRequest(({ endpoint }) => endpoint === "usages" && usages() > asked);
    assert.equal(chats(), 1);
    assert.equal(await said(pi, "/kimi-quota stop"), "Stopped 1 request.");
    const [message] = messages(await waiting);
    assert.match(message?.errorMessage ?? "", /stopped with \/kimi-quota/);
    // Resumed while the window is open again: the request is sent before the reset that was told.
    const again = pi.prompt("hi");
    const from = pi.events.length;
    await pi.waitFor(status(/Kimi 5h full/), from);
    simulator.plan.windows = new PlanWindows(() => [fiveHours(HOUR, { percent: 3 })]);
    await said(pi, "/kimi-quota resume");
    assert.equal(textOf(messages(await again).at(-1)), "Hello.");
  });

  test("/kimi-quota wait and stop before a window is used up → the next one is not asked about", async () => {
    window(HOUR);
    const pi = rpc();
    assert.equal(
      await said(pi, "/kimi-quota wait"),
      "No request waits for a quota window. Where you would be asked, requests of the next window that is used up wait; quota.onExhausted decides for later ones.",
    );
    const waiting = pi.prompt("hi");
    await pi.waitFor(status(/Kimi 5h full/));
    const parked = { state: "parked", window: "5h", sessions: 1 };
    for (const command of ["/kimi-quota wait --json", "/kimi-quota --json resume", "/kimi-quota --json"]) {
      const { state, window: id, sessions, ...times } = JSON.parse(await said(pi, command)) as Record<string, unknown>;
      assert.deepEqual({ state, window: id, sessions }, parked, command);
      assert.deepEqual(Object.keys(times).sort(), ["resetsAt", "since"]);
    }
    assert.match(await said(pi, "/kimi-quota wait"), /^1 request waits since /);
    assert.match(await said(pi, "/kimi-quota stop --json"), /^\{"state":"(parked|open)",/);
    assert.match(messages(await waiting)[0]?.errorMessage ?? "", /stopped with \/kimi-quota/);
    assert.equal(
      await said(pi, "/kimi-quota stop"),
      "No request waits for a quota window. Where you would be asked, requests of the next window that is used up fail; quota.onExhausted decides for later ones.",
    );
    assert.equal(
      await said(pi, "/kimi-quota --json"),
      JSON.stringify({ state: "open", window: null, resetsAt: null, since: null, sessions: 0 }),
    );
    assert.match(messages(await pi.prompt("hi"))[0]?.errorMessage ?? "", /5-hour window is used up/);
    assert.ok(!pi.events.some(ui("select")));
  });

  test("a reserve is reached → the dialog and /kimi-quota say so", async () => {
    window(HOUR, { percent: 96 });
    const settings = JSON.stringify({ quota: { reserve: { "5h": 5 } } });
    mkdirSync(join(home.home, ".pi"), { recursive: true });
    writeFileSync(join(home.home, ".pi", "pi-provider-kimi-code.json"), settings);
    const pi = rpc();
    void pi.command({ type: "prompt", message: "hi" });
    const dialog = await pi.waitFor(ui("select"));
    assert.match(String(dialog["title"]), /^Kimi: 5-hour window is down to its reserve, opens [\w ]*\d\d:\d\d/);
    pi.choose(dialog, "Wait, and continue by itself");
    await pi.waitFor(status(/Kimi 5h reserve reached · continues/));
    assert.match(await said(pi, "/kimi-quota"), /: 5-hour window is down to its reserve, opens /);
    assert.equal(chats(), 0);
  });

  test("another plan with other windows while parked → /kimi-quota resume continues", async () => {
    window(HOUR);
    const pi = rpc({ KIMI_CODE_QUOTA: "wait" });
    const waiting = pi.prompt("hi");
    await pi.waitFor(status(/Kimi 5h full/));
    simulator.plan.windows = new PlanWindows(() => [fiveHours(90 * HOUR, { name: "limit_7d", percent: 30 })]);
    await said(pi, "/kimi-quota resume");
    assert.equal(textOf(messages(await waiting).at(-1)), "Hello.");
    assert.equal(chats(), 2);
  });

  /** Starts a Pi with this entry in its file and a request that waits; returns how to replace the entry, and the request's end. */
  async function parkedWith(entry: object): Promise<{ replace(entry?: object): void; error(): Promise<string> }> {
    const file = join(home.agent, "auth.json");
    const replace = (entry?: object): void =>
      writeFileSync(file, JSON.stringify(entry === undefined ? {} : { "kimi-coding": entry }), { mode: 0o600 });
    replace(entry);
    const login = { KIMI_API_KEY: undefined, KIMI_CODE_OAUTH_HOST: simulator.oauthHost };
    const pi = rpc({ KIMI_CODE_QUOTA: "wait", ...login });
    const waiting = pi.prompt("hi", {}, PATIENCE_MS);
    await pi.waitFor(status(/Kimi 5h full/));
    return { replace, error: async () => messages(await waiting)[0]?.errorMessage ?? "" };
  }

  const asEntry = ({ access, refresh }: { access: string; refresh: string }): object => ({
    ...{ type: "oauth", access, refresh, expires: Date.now() + 800_000 },
  });
  const asKey = (key: string): object => ({ type: "api_key", key });

  for (const [what, entry] of [
    ["login", () => asEntry(simulator.oauth.login())],
    ["key", () => asKey(simulator.apiKey)],
  ] as const) {
    test(`signed out while parked, ${what} → stops and says so`, async () => {
      window(HOUR);
      const { replace, error } = await parkedWith(entry());
      replace();
      assert.match(await error(), /Signed out while waiting for the quota window/);
      assert.equal(chats(), 1);
    });

    test(`another account while parked, ${what} → stops and says so, nothing is sent for either`, async () => {
      window(HOUR);
      const { replace, error } = await parkedWith(entry());
      simulator.credentials.add("sk-kimi-other");
      replace(what === "key" ? asKey("sk-kimi-other") : asEntry(simulator.oauth.login("another-user")));
      assert.match(await error(), /Another account is signed in now/);
      assert.equal(chats(), 1);
    });
  }

  test("another process renews the login while parked, and the token has expired → the turn continues", async () => {
    window(OPENS_MS);
    const login = simulator.oauth.login();
    const { replace, error } = await parkedWith(asEntry(login));
    const renewed = simulator.oauth.rotate(login.refresh) as { access: string; refresh: string };
    replace(asEntry(renewed));
    simulator.oauth.revokeAccess();
    assert.equal(await error(), "");
    const answered = simulator.requests.filter(({ endpoint, status }) => endpoint === "chat" && status === 200);
    assert.equal(answered.length, 1);
    assert.equal(simulator.oauth.reuses, 0);
  });

  test("/kimi-usage --history → rows of the ledger as text and JSON; the ledger names nothing", async () => {
    window(HOUR, { percent: 10 });
    const pi = rpc();
    for (let turn = 0; turn < 3; turn += 1) await pi.prompt(`secret-${turn}`);
    const text = await said(pi, "/kimi-usage --history 7d --by model");
    assert.match(text, /^Usage of the last 7d by model\nmodel .*requests/);
    assert.match(text, /\nkimi-for-coding +█+ +– +– +3/);
    assert.match(text, /Percents are known after 20 readings of the quota\./);
    assert.match(await said(pi, "/kimi-usage --history"), /\nthis session /);
    const json = JSON.parse(await said(pi, "/kimi-usage --history=24h --by day --json")) as {
      rows: { requests: number }[];
    };
    assert.deepEqual(
      json.rows.map(({ requests }) => requests),
      [3],
    );
    assert.match(await said(pi, "/kimi-usage --history soon"), /write 7d or 24h/);
    assert.match(await said(pi, "/kimi-usage --by hour"), /^Usage: \/kimi-usage/);
    const folder = join(home.home, ".pi", "pi-provider-kimi-code", "ledger");
    const days = readdirSync(folder).filter((name) => name.endsWith(".jsonl"));
    const ledger = days.map((day) => readFileSync(join(folder, day), "utf8")).join("");
    const lines = ledger.split("\n").slice(0, -1);
    assert.equal(lines.length, 3);
    assert.ok(lines.every((line) => Buffer.byteLength(line) < 200));
    assert.doesNotMatch(ledger, /secret|work|kimi-test-/);
    assert.ok(existsSync(folder));
  });
});

function usages(): number {
  return simulator.requests.filter(({ endpoint }) => endpoint === "usages").length;
}

describe("on a screen", () => {
  test("dialog → wait → footer and working line; the key → the turn ends and nothing is sent", async (context) => {
    window(2.2 * HOUR);
    const pi = new Terminal(MODEL, { home, env: env() });
    try {
      await pi.waitFor(/Kimi 5h 100%/);
      await pi.submit("hi");
      const dialog = await pi.waitFor(/Kimi: 5-hour window is used up, opens [\w ]*\d\d:\d\d \(in 2 h \d+ min\)/);
      for (const choice of CHOICES) assert.ok(dialog.includes(choice), dialog);
      pi.press("Enter");
      const parked = /Kimi 5h full · continues [\w ]*\d\d:\d\d \(in 2 h \d+ min\) · Esc stops/g;
      const screen = await pi.waitFor(new RegExp(`${parked.source}[^]*${parked.source}`));
      assert.equal(screen.match(parked)?.length, 2, "footer and working line");
      const pressed = performance.now();
      pi.press("Escape");
      await pi.waitFor(/abort/i);
      const took = performance.now() - pressed;
      context.diagnostic(`the screen says aborted ${Math.round(took)} ms after the key`);
      assert.ok(took < ABORTED_WITHIN_MS, `${took} ms`);
      await pi.waitFor(/^(?![^]*5h full)/);
      assert.equal(chats(), 1);
    } finally {
      pi.close();
    }
  });

  test("window opens → the turn continues by itself", async () => {
    window(OPENS_MS);
    const pi = new Terminal(MODEL, { home, env: env({ KIMI_CODE_QUOTA: "wait" }) });
    try {
      await pi.waitFor(/Kimi 5h 100%/);
      await pi.submit("hi");
      await pi.waitFor(/Kimi 5h full · continues/);
      await pi.waitFor(/Hello\./, PATIENCE_MS);
      await pi.waitFor(/^(?![^]*5h full)/);
    } finally {
      pi.close();
    }
  });
});
