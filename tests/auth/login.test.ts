/** Signing in: the device flow with everything a person and a service can do to it, reuse, regions. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { kimiAuth } from "../../extension/auth.ts";
import { PiCredentials } from "../../extension/credential.ts";
import { host } from "../../extension/environment.ts";
import type { JsonObject } from "../simulator/json.ts";
import type { DeviceStep } from "../simulator/oauth-state.ts";
import type { Simulator } from "../simulator/index.ts";
import { type Entry, type Machine, withMachine } from "../support/account.ts";
import { addon as loadedAddon } from "../support/turn.ts";

const addon = loadedAddon();
let simulator: Simulator;
let machine: Machine;
withMachine((...given) => ([simulator, machine] = given));

interface Step {
  type: string;
  message?: string;
  code?: string;
  url?: string;
  userCode?: string;
  credential?: Entry;
}

/** Runs the device flow and returns all its steps. */
function signIn(script: DeviceStep[], onStep?: (step: Step, cancel: () => void) => void): Promise<Step[]> {
  if (script.length > 0) simulator.oauth.scripts.push(script);
  const steps: Step[] = [];
  return new Promise((resolve) => {
    const handle = addon.startLogin(machine.request(), (text) => {
      const step = JSON.parse(text) as Step;
      steps.push(step);
      onStep?.(step, () => handle.cancel());
      if (step.type === "done" || step.type === "failed") resolve(steps);
    });
  });
}

describe("the device flow", () => {
  test("brings a login that both files hold, with the hosts it belongs to", async () => {
    const steps = await signIn(["authorization_pending", "approve"]);
    const [code, done] = steps;
    assert.match(code?.url ?? "", /^http:\/\/127\.0\.0\.1:\d+\/verify\?user_code=/);
    assert.ok(code?.url?.endsWith(code.userCode ?? "-"));
    assert.equal(done?.credential?.access, machine.kimi?.access_token);
    assert.deepEqual(
      [done?.credential?.["oauthHost"], done?.credential?.["baseUrl"]],
      [simulator.oauthHost, simulator.baseUrl],
    );
    assert.equal(existsSync(machine.lockPath), false);
  });

  test("survives rate limits, server trouble and broken connections", async () => {
    const steps = await signIn([{ status: 429 }, { status: 502, body: "<html>" }, "approve"]);
    assert.deepEqual(
      steps.map((step) => step.type),
      ["code", "progress", "progress", "done"],
    );
  });

  test("takes a new code when one runs out", async () => {
    simulator.oauth.scripts.push(["expired_token"], ["expired_token"]);
    const steps = await signIn([]);
    assert.deepEqual(
      steps.map((step) => step.type),
      ["code", "progress", "code", "progress", "code", "done"],
    );
  });

  test("asks for codes that are born dead no faster than it may poll", async () => {
    simulator.oauth.deviceExpiresIn = 1;
    const steps = await signIn(["authorization_pending"], (step, cancel) => {
      if (step.type === "code") setTimeout(cancel, 2500);
    });
    const asked = simulator.requests.filter((one) => one.endpoint === "device").map((one) => one.time);
    assert.ok(steps.length > 2 && asked.length > 1);
    const pauses = asked.slice(1).map((time, position) => time - (asked[position] ?? 0));
    assert.ok(Math.min(...pauses) >= 900, `${pauses}`);
  });

  test("reads what the service says whatever its status, and no page in its place", async () => {
    const says = (status: number, body: JsonObject | string): DeviceStep => ({ status, body });
    const steps = await signIn([
      says(200, { error: "authorization_pending" }),
      says(401, { error: "authorization_pending" }),
      says(400, { error: { code: "authorization_pending", message: "wait" } }),
      says(200, "<html><title>Sign in to the hotel</title></html>"),
      "approve",
    ]);
    assert.deepEqual(
      steps.map((step) => step.type),
      ["code", "progress", "done"],
    );
    const denied = (await signIn([says(200, { error: "access_denied" })])).at(-1);
    assert.deepEqual([denied?.type, denied?.message], ["failed", "The Kimi Code login was denied in the browser."]);
  });

  test("slows down by five seconds when told to", async () => {
    await signIn(["slow_down", "approve"]);
    const [first, second] = simulator.requests.filter((one) => one.endpoint === "token").map((one) => one.time);
    assert.ok((second ?? 0) - (first ?? 0) >= 5900);
  });

  test("ends when the person says no", async () => {
    const last = (await signIn(["access_denied"])).at(-1);
    assert.deepEqual([last?.type, last?.message], ["failed", "The Kimi Code login was denied in the browser."]);
    assert.equal(machine.kimi, undefined);
  });

  test("can be aborted at any moment, also while it sleeps", async () => {
    const started = Date.now();
    simulator.oauth.interval = 60;
    const steps = await signIn(["authorization_pending"], (step, cancel) => {
      if (step.type === "code") setTimeout(cancel, 100);
    });
    assert.equal(steps.at(-1)?.code, "cancelled");
    assert.ok(Date.now() - started < 10_000);
  });

  test("opens nothing but web pages, and needs every mandatory member", async () => {
    for (const [answer, expected] of [
      [{ verification_uri_complete: "file:///etc/passwd" }, /not http\(s\)/],
      [{ verification_uri_complete: "javascript:alert(1)" }, /not http\(s\)/],
      [{ verification_uri_complete: null, verification_uri: null }, /no page/],
      [{ user_code: "" }, /no user code/],
      [{ device_code: null }, /no device code/],
    ] as const) {
      simulator.oauth.deviceAnswer = answer;
      assert.match((await signIn([])).at(-1)?.message ?? "", expected);
    }
  });

  test("does without the complete address, and an answer without tokens is no login", async () => {
    simulator.oauth.deviceAnswer = { verification_uri_complete: null, interval: 0, expires_in: 0 };
    simulator.oauth.tokenAnswer = { refresh_token: null };
    const steps = await signIn(["approve"]);
    assert.match(steps[0]?.url ?? "", /\/verify$/);
    assert.equal(steps.at(-1)?.type, "failed");
    assert.equal(machine.kimi, undefined);
  });

  test("leaves another account's login of the official client alone", async () => {
    const theirs = simulator.oauth.login("another-user");
    machine.kimiLogin(theirs, 800);
    assert.equal((await signIn(["approve"])).at(-1)?.type, "done");
    assert.equal(machine.kimi?.access_token, theirs.access);
  });
});

describe("the login that is already here", () => {
  async function reuse(): Promise<{ credential?: Entry; error?: { code: string } }> {
    return JSON.parse(await addon.reuseLogin(machine.request())) as { credential?: Entry };
  }

  test("is offered once; a second request wants another one", async () => {
    const login = simulator.oauth.login();
    machine.kimiLogin(login, 800);
    assert.equal((await reuse()).credential?.access, login.access);
    machine.piLogin(login, 800);
    assert.deepEqual(await reuse(), {});
  });

  test("is refreshed if it is old, and no obstacle if it is dead", async () => {
    machine.kimiLogin(simulator.oauth.login(), -5);
    assert.equal((await reuse()).credential?.access, machine.kimi?.access_token);
    assert.equal(simulator.oauth.refreshes, 1);
    simulator.oauth.revokeAll();
    machine.kimiLogin({ access: "a", refresh: "r" }, -5);
    assert.equal((await reuse()).error?.code, "login_required");
  });
});

describe("two at once", () => {
  test("both logins succeed, and one whole login is what stays", async () => {
    const all = await Promise.all([signIn([]), signIn([]), signIn([])]);
    const made = all.map((steps) => steps.at(-1)?.credential?.access);
    assert.equal(new Set(made).size, 3);
    assert.ok(made.includes(machine.kimi?.access_token));
    assert.ok(simulator.oauth.isAlive(machine.kimi?.refresh_token ?? ""));
    assert.equal(existsSync(machine.lockPath), false);
  });

  test("a login during a refresh waits for it, and nothing of either is mixed", async () => {
    simulator.oauth.tokenDelayMs = 1500;
    machine.kimiLogin(simulator.oauth.login(), -5);
    const refreshing = addon.cliLogin(machine.request());
    await simulator.waitForRequest((one) => one.endpoint === "token", 10_000);
    const login = (await signIn(["approve"])).at(-1)?.credential;
    assert.ok((JSON.parse(await refreshing) as { access?: string }).access);
    assert.deepEqual([machine.kimi?.access_token, machine.kimi?.refresh_token], [login?.access, login?.refresh]);
    assert.deepEqual([simulator.oauth.refreshes, simulator.oauth.reuses], [1, 0]);
  });
});

describe("regions", () => {
  const ask = (environment: Record<string, string> = {}): unknown =>
    JSON.parse(addon.loginOptions(JSON.stringify({ environment: { HOME: machine.home, ...environment }, host: {} })));
  const home = (): string => join(machine.home, ".kimi-code");

  test("are chosen by environment, by the official client's last login, by its marker, or asked for", () => {
    assert.deepEqual(ask(), { ask: true, region: null });
    assert.deepEqual(ask({ KIMI_CODE_REGION: "global" }), { ask: false, region: "global" });
    assert.deepEqual(ask({ KIMI_CODE_BASE_URL: "http://127.0.0.1:1/v1" }), { ask: false, region: null });
    mkdirSync(home(), { recursive: true });
    writeFileSync(join(home(), "region"), "global\n");
    assert.deepEqual(ask(), { ask: false, region: "global" });
    assert.deepEqual(ask({ KIMI_CODE_REGION_MARKER: "off" }), { ask: true, region: null });
    writeFileSync(join(home(), "config.toml"), '[providers."managed:kimi-code".oauth]\nkey = "oauth/kimi-code"\n');
    assert.deepEqual(ask(), { ask: false, region: "mainland-cn" });
  });

  test("keep their logins and hosts apart", async () => {
    const credentials = join(home(), "credentials");
    mkdirSync(credentials, { recursive: true });
    const expires_at = Math.floor(Date.now() / 1000) + 800;
    const write = (name: string, token: string): void =>
      writeFileSync(
        join(credentials, `${name}.json`),
        JSON.stringify({ access_token: token, refresh_token: "r", expires_at, expires_in: 900 }),
      );
    const request = JSON.stringify({ environment: { HOME: machine.home }, host: {} });
    write("kimi-code-env-0e4f99c69cc27850", "global-token");
    assert.deepEqual(JSON.parse(await addon.cliLogin(request)), {
      access: "global-token",
      baseUrl: "https://api.kimi.ai/coding",
    });
    write("kimi-code", "mainland-token");
    assert.deepEqual(JSON.parse(await addon.cliLogin(request)), {
      access: "mainland-token",
      baseUrl: "https://api.kimi.com/coding",
    });
    const base = (environment: Record<string, string>, baseUrl?: string): string =>
      addon.baseOf(JSON.stringify({ environment, host: {}, baseUrl }));
    // A login that records no hosts is one of the default deployment.
    assert.equal(base({}), "https://api.kimi.com/coding");
    assert.throws(() => base({ KIMI_CODE_REGION: "global" }), /mainland-cn/);
    assert.equal(base({}, "https://api.kimi.ai/coding"), "https://api.kimi.ai/coding");
    assert.throws(
      () => base({ KIMI_CODE_BASE_URL: "https://api.kimi.com/coding" }, "https://api.kimi.ai/coding"),
      /global/,
    );
  });

  test("a plain program goes where Pi's login belongs", async () => {
    machine.piLogin(simulator.oauth.login(), 800, { oauthHost: simulator.oauthHost, baseUrl: simulator.baseUrl });
    const env = { KIMI_CODE_BASE_URL: undefined, KIMI_CODE_OAUTH_HOST: undefined };
    assert.deepEqual(await machine.nodeTurn({ env }), { text: "ok" });
    simulator.oauth.revokeAccess();
    assert.deepEqual(await machine.nodeTurn({ env }), { text: "ok" });
    assert.equal(machine.pi?.access, machine.kimi?.access_token);
  });

  test("the predecessor's login counts only where it belongs and nothing newer exists", async () => {
    const legacy = join(machine.home, ".kimi", "credentials");
    mkdirSync(legacy, { recursive: true });
    const expires_at = Date.now() / 1000 + 800.25;
    const content = JSON.stringify({ access_token: "old", refresh_token: "r", expires_at, expires_in: 900.0 });
    writeFileSync(join(legacy, "kimi-code.json"), content);
    const request = JSON.stringify({ environment: { HOME: machine.home }, host: {} });
    assert.equal((JSON.parse(await addon.cliLogin(request)) as { access: string }).access, "old");
    assert.equal(addon.hasCliLogin(machine.request()), false, "not for another host");
    mkdirSync(join(home(), "credentials"), { recursive: true });
    writeFileSync(join(home(), "credentials", "kimi-code.json"), '{"access_token":"","refresh_token":""}');
    assert.deepEqual(JSON.parse(await addon.cliLogin(request)), {}, "a tombstone is the last word");
    assert.equal(readFileSync(join(legacy, "kimi-code.json"), "utf8"), content);
  });
});

describe("what Pi is told", () => {
  test("a person who has to choose a region is asked, and abort ends the login", async () => {
    const auth = kimiAuth(addon, { host: host("0.87.1"), credentials: new PiCredentials() });
    const saved = { ...process.env };
    Object.assign(process.env, { HOME: machine.home, USERPROFILE: machine.home });
    for (const name of Object.keys(process.env)) if (name.startsWith("KIMI_")) delete process.env[name];
    try {
      const asked: string[] = [];
      const controller = new AbortController();
      const login = auth.oauth?.login({
        signal: controller.signal,
        notify: () => undefined,
        prompt: (prompt) => {
          asked.push(prompt.message);
          return Promise.reject(new Error("Login cancelled"));
        },
      });
      await assert.rejects(login ?? Promise.resolve(), /Login cancelled/);
      assert.equal(asked.length, 1);
    } finally {
      process.env = saved;
    }
  });
});
