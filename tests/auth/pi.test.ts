/** Real Pi signs in, starts with an old login, meets a 401 in mid-session, and shares one login with its neighbours. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Simulator } from "../simulator/index.ts";
import { type Machine, type NodeTurn, withPrograms } from "../support/account.ts";
import { messages, RpcPi, runPi, textOf } from "../support/pi.ts";
import { Terminal } from "../support/terminal.ts";

const MODEL = ["--no-session", "--model", "kimi-coding/kimi-for-coding"];
/** Half are plain Node programs, half are Pi. The whole crowd of 32 takes a minute on two cores. */
const CROWD = Number(process.env["KIMI_TEST_CROWD"] ?? 8);

let simulator: Simulator;
let machine: Machine;
const opened = withPrograms((...given) => {
  [simulator, machine] = given;
  simulator.setDefault({ steps: [{ text: "Hello." }] });
});

async function say(timeoutMs = 60_000): Promise<{ code: number | null; stdout: string; stderr: string }> {
  return runPi(["-p", ...MODEL, "hi"], { home: machine, env: machine.variables(), timeoutMs });
}

/** What a program of the crowd said, or why it did not. */
function report(outcome: { stdout: string; stderr: string; code: number | null } | NodeTurn): string {
  if ("text" in outcome) return outcome.error ?? outcome.text;
  const { code, stdout, stderr } = outcome;
  return code === 0 && stderr === "" ? stdout.trim() : `exit ${code}: ${stdout} ${stderr}`;
}

function chats(status?: number): number {
  return simulator.requests.filter((one) => one.endpoint === "chat" && (status === undefined || one.status === status))
    .length;
}

describe("a login that is there", () => {
  test("expired: one refresh, one answer, both files renewed", async () => {
    const login = simulator.oauth.login();
    machine.piLogin(login, -100, { modelCatalogVersion: 1 });
    const { code, stdout, stderr } = await say();
    assert.deepEqual([code, stdout.trim(), stderr], [0, "Hello.", ""]);
    assert.deepEqual([simulator.oauth.refreshes, simulator.oauth.reuses], [1, 0]);
    assert.equal(machine.pi?.access, machine.kimi?.access_token);
    assert.equal(machine.pi?.["modelCatalogVersion"], 1);
    assert.ok(simulator.oauth.isAlive(machine.pi?.refresh ?? ""));
    // And the next start finds everything in order.
    assert.equal((await say()).stdout.trim(), "Hello.");
    assert.equal(simulator.oauth.refreshes, 1);
  });

  test("of the official client only: Pi simply works", async () => {
    machine.kimiLogin(simulator.oauth.login(), 800);
    assert.equal((await say()).stdout.trim(), "Hello.");
    machine.kimiLogin(simulator.oauth.login(), -5);
    assert.equal((await say()).stdout.trim(), "Hello.");
    assert.deepEqual([simulator.oauth.refreshes, simulator.oauth.reuses], [1, 0]);
  });

  test("refused for good: the message says how to go on", async () => {
    machine.piLogin(simulator.oauth.login(), -5);
    simulator.oauth.revokeAll();
    const { code, stderr } = await say();
    assert.equal(code, 1);
    assert.match(stderr, /\/login kimi-coding/);
  });

  test("a static key outranks the official client's login and is never replaced by it", async () => {
    machine.kimiLogin(simulator.oauth.login(), 800);
    const env = machine.variables({ KIMI_API_KEY: "sk-kimi-wrong" });
    const { code, stderr } = await runPi(["-p", ...MODEL, "hi"], { home: machine, env });
    assert.equal(code, 1);
    assert.match(stderr, /401/);
    assert.deepEqual([chats(), simulator.oauth.refreshCalls], [1, 0]);
  });

  test("nothing but a tombstone: Pi asks to sign in", async () => {
    machine.kimiLogin({ access: "", refresh: "" }, 0);
    const { code } = await say();
    assert.equal(code, 1);
    assert.equal(simulator.requests.length, 0);
  });
});

describe("a 401 in the middle of a session", () => {
  test("heals unseen: one refresh, one replay, and Pi's file is renewed", async () => {
    machine.piLogin(simulator.oauth.login(), 800);
    const pi = opened(new RpcPi(MODEL, { home: machine, env: machine.variables() }));
    assert.equal(textOf(messages(await pi.prompt("one"))[0]), "Hello.");
    simulator.oauth.revokeAccess();
    for (const prompt of ["two", "three"]) {
      const [message] = messages(await pi.prompt(prompt));
      assert.deepEqual([message?.stopReason, textOf(message)], ["stop", "Hello."]);
    }
    assert.deepEqual([simulator.oauth.refreshes, simulator.oauth.reuses, chats(401)], [1, 0, 1]);
    assert.ok(simulator.oauth.accepts(machine.pi?.access ?? ""));
    assert.equal(existsSync(`${machine.authPath}.lock`), false);
  });

  test("after the official client has refreshed: its token is adopted, none is spent", async () => {
    const login = simulator.oauth.login();
    machine.piLogin(login, 800);
    const theirs = simulator.oauth.rotate(login.refresh);
    assert.ok(typeof theirs === "object");
    machine.kimiLogin(theirs, 900);
    assert.equal((await say()).stdout.trim(), "Hello.");
    assert.deepEqual([simulator.oauth.refreshes, machine.pi?.access], [1, theirs.access]);
  });

  test("about a plan is no reason to refresh", async () => {
    machine.piLogin(simulator.oauth.login(), 800);
    const message = "Your current subscription does not have access to k3. Upgrade to a Moderato plan or above.";
    simulator.intercept("chat", { status: 401, body: { error: { message } } });
    const { stderr } = await say();
    assert.match(stderr, /subscription does not have access/);
    assert.equal(simulator.oauth.refreshCalls, 0);
  });

  test("a second 401 ends the turn instead of going on for ever", async () => {
    machine.piLogin(simulator.oauth.login(), 800);
    simulator.intercept("chat", { status: 401 }, { status: 401 });
    const { code, stderr } = await say();
    assert.equal(code, 1);
    assert.match(stderr, /\/login kimi-coding/);
    assert.deepEqual([chats(), simulator.oauth.refreshes], [2, 1]);
  });
});

describe("neighbours", () => {
  test(`${CROWD} programs start with one expired login: one refresh, and all get their answer`, async () => {
    simulator.oauth.tokenDelayMs = 9000;
    const login = simulator.oauth.login();
    machine.piLogin(login, -5);
    machine.kimiLogin(login, -5);
    const crowd = Array.from({ length: CROWD }, async (_, n) =>
      n % 2 === 0 ? report(await say(180_000)) : report(await machine.nodeTurn()),
    );
    assert.deepEqual(new Set(await Promise.all(crowd)), new Set(["Hello."]));
    assert.deepEqual([simulator.oauth.refreshCalls, simulator.oauth.reuses], [1, 0]);
  });

  test("a crowd that finds a dead holder's locks still refreshes once", async () => {
    const login = simulator.oauth.login();
    machine.piLogin(login, -5);
    machine.kimiLogin(login, -5);
    for (const lock of [machine.lockPath, `${machine.authPath}.lock`]) {
      mkdirSync(lock, { recursive: true });
      utimesSync(lock, 1, 1);
    }
    const crowd = await Promise.all(Array.from({ length: 6 }, () => machine.nodeTurn()));
    assert.deepEqual(new Set(crowd.map((one) => one.text)), new Set(["Hello."]), JSON.stringify(crowd));
    assert.deepEqual([simulator.oauth.refreshCalls, simulator.oauth.reuses], [1, 0]);
  });
});

describe("/login in a terminal", () => {
  function terminal(env: Record<string, string | undefined> = {}): Terminal {
    return opened(new Terminal(MODEL, { home: machine, env: machine.variables(env) }));
  }

  async function startLogin(pi: Terminal): Promise<void> {
    await pi.waitFor(/kimi-for-coding|No models/);
    // The blank closes the list of completions, which would take the first Enter; on a crowded machine it may be late.
    await pi.submit("/login kimi-coding ");
    await pi.waitFor(/Sign in with Kimi Code/, 15_000).catch(() => pi.press("Enter"));
    await pi.waitFor(/Sign in with Kimi Code/);
    pi.press("Enter");
  }

  test("shows code and address, survives slow_down and a new code, and the first prompt works", async () => {
    simulator.oauth.scripts.push(["authorization_pending", "expired_token"], ["approve"]);
    const pi = terminal();
    await startLogin(pi);
    await pi.waitFor(/[0-9A-F]{4}-[0-9A-F]{4}/);
    await pi.waitFor(/Logged in|Signed in|logged in/i);
    assert.equal(machine.pi?.type, "oauth");
    assert.equal(machine.pi?.access, machine.kimi?.access_token);
    await pi.submit("hi");
    await pi.waitFor(/Hello\./);
    assert.equal(simulator.oauth.logins, 1);
  });

  test("uses the login of the official client without a browser", async () => {
    const login = simulator.oauth.login();
    machine.kimiLogin(login, 800);
    const pi = terminal();
    await startLogin(pi);
    await pi.waitFor(/Logged in|Signed in|logged in/i);
    assert.equal(machine.pi?.access, login.access);
    assert.equal(
      simulator.requests.some((one) => one.endpoint === "device"),
      false,
    );
  });

  test("can be aborted while it waits", async () => {
    simulator.oauth.scripts.push(["authorization_pending"]);
    const pi = terminal();
    await startLogin(pi);
    await pi.waitFor(/[0-9A-F]{4}-[0-9A-F]{4}/);
    pi.press("Escape");
    await pi.waitFor(/^(?![^]*[0-9A-F]{4}-[0-9A-F]{4})/);
    // What was asked before is there after a moment; the next question would be due within a second.
    await sleep(500);
    const polls = simulator.requests.length;
    await sleep(2500);
    assert.equal(simulator.requests.length, polls, "polling ends with the login");
    assert.equal(machine.kimi, undefined);
  });
});

describe("identity", () => {
  test("is honest unless asked otherwise, and never sent by halves", async () => {
    machine.piLogin(simulator.oauth.login(), -5);
    await say();
    for (const { headers } of simulator.requests) {
      assert.match(headers["user-agent"] ?? "", /^pi\/\S+ \(\w+; node\/\S+; \w+\) pi-provider-kimi-code\/\S+$/);
      assert.equal(
        Object.keys(headers).some((name) => name.startsWith("x-msh-")),
        false,
      );
    }
    simulator.requests.length = 0;
    machine.piLogin(simulator.oauth.login(), -5);
    machine.kimiLogin({ access: "", refresh: "" }, 0);
    writeFileSync(join(machine.home, ".kimi-code", "device_id"), "0123456789abcdef0123456789abcdef\n");
    await runPi(["-p", ...MODEL, "hi"], { home: machine, env: machine.variables({ KIMI_CODE_IDENTITY: "kimi-code" }) });
    assert.ok(simulator.requests.length >= 2);
    for (const { headers } of simulator.requests) {
      assert.equal(headers["user-agent"], "kimi-code-cli/2.1.0");
      assert.equal(headers["x-msh-platform"], "kimi_code_cli");
      assert.equal(headers["x-msh-device-id"], "0123456789abcdef0123456789abcdef");
    }
  });

  test("no secret reaches the debug log", async () => {
    const login = simulator.oauth.login();
    machine.piLogin(login, -5);
    const env = machine.variables({ KIMI_CODE_DEBUG: "1" });
    await runPi(["-p", ...MODEL, "hi"], { home: machine, env });
    const log = readFileSync(join(machine.home, ".pi", "pi-provider-kimi-code", "debug.log"), "utf8");
    for (const secret of [login.access, login.refresh, machine.pi?.access ?? "", machine.pi?.refresh ?? ""]) {
      assert.equal(log.includes(secret), false);
    }
  });
});
