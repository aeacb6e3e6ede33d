/** A login stays valid, is shared, and is never lost: the addon against the simulated OAuth host and real files. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, rmdirSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Simulator } from "../simulator/index.ts";
import { type Entry, type Machine, type NodeTurn, withMachine } from "../support/account.ts";
import { addon as loadedAddon } from "../support/turn.ts";

const addon = loadedAddon();
let simulator: Simulator;
let machine: Machine;
withMachine((...given) => ([simulator, machine] = given));

interface Answer {
  credential?: Entry;
  access?: string;
  error?: { code: string; message: string };
}

async function renew(entry: Entry, env: Record<string, string> = {}): Promise<Answer> {
  return JSON.parse(await addon.renewLogin(machine.request(env), JSON.stringify(entry))) as Answer;
}

async function cliLogin(env: Record<string, string> = {}): Promise<Answer> {
  return JSON.parse(await addon.cliLogin(machine.request(env))) as Answer;
}

function refreshes(): number {
  assert.equal(simulator.oauth.reuses, 0, "a spent refresh token must never be presented again");
  return simulator.oauth.refreshes;
}

describe("Pi asks for a refresh", () => {
  test("both stores get the new login, and what else stood there stays", async () => {
    const login = simulator.oauth.login();
    machine.kimiLogin(login, 100, { novel: true });
    machine.piLogin(login, 100, { modelCatalogVersion: 1 });
    const { credential } = await renew(machine.pi as Entry);
    assert.equal(refreshes(), 1);
    assert.ok(credential && simulator.oauth.accepts(credential.access) && simulator.oauth.isAlive(credential.refresh));
    assert.equal(credential["modelCatalogVersion"], 1);
    assert.ok(Math.abs(credential.expires - Date.now() - 900_000) < 30_000, "the end is absolute");
    assert.equal(machine.kimi?.access_token, credential.access);
    assert.deepEqual([machine.kimi?.scope, machine.kimi?.["novel"]], ["kimi-code", true]);
    assert.equal(statSync(machine.kimiPath).mode & 0o777, 0o600);
    assert.equal(existsSync(machine.lockPath), false);
  });

  test("a newer login on disk is adopted instead of spending a refresh token", async () => {
    const old = simulator.oauth.login();
    machine.piLogin(old, 100);
    const newer = simulator.oauth.rotate(old.refresh);
    assert.ok(typeof newer === "object");
    machine.kimiLogin(newer, 900);
    const { credential } = await renew(machine.pi as Entry);
    assert.equal(credential?.access, newer.access);
    assert.equal(simulator.oauth.refreshCalls, 0);
  });

  test("of two refresh tokens the younger is spent; a dead one leads to the other", async () => {
    const old = simulator.oauth.login();
    const newer = simulator.oauth.rotate(old.refresh);
    assert.ok(typeof newer === "object");
    machine.kimiLogin(newer, -5);
    machine.piLogin(old, -500);
    assert.ok((await renew(machine.pi as Entry)).credential);
    assert.equal(refreshes(), 2);
    // The other way round: the official client's file holds what Pi's built-in provider has since replaced.
    const replaced = simulator.oauth.login();
    machine.kimiLogin(replaced, -5);
    const current = simulator.oauth.rotate(replaced.refresh);
    assert.ok(typeof current === "object");
    machine.piLogin(current, -10);
    assert.ok((await renew(machine.pi as Entry)).credential);
    assert.equal(machine.kimi?.access_token !== replaced.access, true);
  });

  test("another account's login on the same machine is neither adopted nor overwritten", async () => {
    const theirs = simulator.oauth.login("another-user");
    machine.kimiLogin(theirs, 900);
    machine.piLogin(simulator.oauth.login("me"), 100);
    const { credential } = await renew(machine.pi as Entry);
    assert.equal(refreshes(), 1);
    assert.notEqual(credential?.access, theirs.access);
    assert.equal(machine.kimi?.access_token, theirs.access);
  });

  test("a login that was refused for good leaves a tombstone and says what to do", async () => {
    const login = simulator.oauth.login();
    machine.kimiLogin(login, 100);
    machine.piLogin(login, 100);
    simulator.oauth.revokeAll();
    const { error } = await renew(machine.pi as Entry);
    assert.equal(error?.code, "login_required");
    assert.match(error?.message ?? "", /kimi\.login\(\)/);
    assert.equal(error?.message.includes(login.refresh), false);
    const { access_token, refresh_token, expires_at, expires_in, scope, token_type } = machine.kimi ?? {};
    assert.deepEqual(
      [access_token, refresh_token, expires_at, expires_in, scope, token_type],
      ["", "", 0, 0, "kimi-code", "Bearer"],
    );
    assert.equal(machine.pi?.refresh, login.refresh, "Pi's own entry is Pi's");
  });

  test("a peer that writes its answer late is waited for", async () => {
    const login = simulator.oauth.login();
    machine.kimiLogin(login, 100);
    machine.piLogin(login, 100);
    const peer = simulator.oauth.rotate(login.refresh);
    assert.ok(typeof peer === "object");
    const renewing = renew(machine.pi as Entry);
    await simulator.waitForRequest(({ endpoint, status }) => endpoint === "token" && status === 400);
    machine.kimiLogin(peer, 900);
    assert.equal((await renewing).credential?.access, peer.access);
  });

  test("what the OAuth host answers instead of tokens is never stored", async () => {
    const answers: [object, RegExp][] = [
      [{ status: 200, body: "<html><title>Sign in to the hotel</title></html>" }, /not JSON/],
      [{ status: 200, body: { access_token: "only-this" } }, /without the expected tokens/],
      [{ status: 401 }, /kimi\.login\(\)/],
      [{ status: 302, headers: { location: `${simulator.oauthHost}/elsewhere` } }, /points somewhere else/],
    ];
    for (const [answer, expected] of answers) {
      const login = simulator.oauth.login();
      machine.kimiLogin(login, -100);
      machine.piLogin(login, -100);
      simulator.intercept("token", answer);
      const { error } = await renew(machine.pi as Entry);
      assert.match(error?.message ?? "", expected);
      assert.equal(machine.pi?.refresh, login.refresh);
      if (!expected.source.includes("login")) assert.equal(machine.kimi?.refresh_token, login.refresh);
      assert.equal(existsSync(machine.lockPath), false);
    }
    assert.equal(
      simulator.requests.some((one) => one.path === "/elsewhere"),
      false,
    );
  });

  test("a failing OAuth host ends nothing while the old token works", async () => {
    const login = simulator.oauth.login();
    machine.piLogin(login, 100);
    simulator.intercept("token", { status: 400, body: { error: "temporarily_unavailable" } });
    const { credential } = await renew(machine.pi as Entry);
    assert.equal(credential?.access, login.access);
    // And the next request does not wait for the same failure again.
    await renew(machine.pi as Entry);
    assert.equal(simulator.requests.filter((one) => one.endpoint === "token").length, 1);
  });

  test("server trouble is tried again", async () => {
    machine.piLogin(simulator.oauth.login(), -1);
    simulator.intercept("token", { status: 503, body: "<html>busy</html>" });
    assert.ok((await renew(machine.pi as Entry)).credential);
    assert.equal(refreshes(), 1);
  });

  test("a login never meets another OAuth host than its own", async () => {
    const login = simulator.oauth.login();
    machine.piLogin(login, 100, { oauthHost: "https://auth.kimi.ai", baseUrl: "https://api.kimi.ai/coding" });
    const { error } = await renew(machine.pi as Entry);
    assert.equal(error?.code, "login_required");
    assert.equal(simulator.requests.length, 0);
  });
});

describe("locks", () => {
  test("a fresh lock of another process is waited for, and what they wrote is adopted", async () => {
    const login = simulator.oauth.login();
    machine.kimiLogin(login, 100);
    machine.piLogin(login, 100);
    mkdirSync(machine.lockPath, { recursive: true });
    const renewing = renew(machine.pi as Entry);
    await sleep(400);
    const peer = simulator.oauth.rotate(login.refresh);
    assert.ok(typeof peer === "object");
    machine.kimiLogin(peer, 900);
    assert.equal((await renewing).credential?.access, peer.access);
    assert.equal(refreshes(), 1);
    rmdirSync(machine.lockPath);
  });

  test("a lock of a dead process, one from the future and one with a file inside do not block", async () => {
    for (const [age, file] of [
      [60, undefined],
      [-3600, undefined],
      [60, "note"],
    ] as const) {
      const login = simulator.oauth.login();
      machine.kimiLogin(login, -1);
      machine.piLogin(login, -1);
      mkdirSync(machine.lockPath, { recursive: true });
      if (file) writeFileSync(join(machine.lockPath, file), "x");
      const time = Date.now() / 1000 - age;
      utimesSync(machine.lockPath, time, time);
      assert.ok((await renew(machine.pi as Entry)).credential, `age ${age}, file ${file}`);
      assert.equal(existsSync(machine.lockPath), false);
    }
  });
});

describe("a login of the official client", () => {
  test("is used as it is, without network", async () => {
    const login = simulator.oauth.login();
    machine.kimiLogin(login, 800);
    assert.equal(addon.hasCliLogin(machine.request()), true);
    assert.equal((await cliLogin()).access, login.access);
    assert.equal(simulator.requests.length, 0);
  });

  test("is refreshed at half of its life, under its lock", async () => {
    machine.kimiLogin(simulator.oauth.login(), 440);
    const { access } = await cliLogin();
    assert.ok(access && simulator.oauth.accepts(access));
    assert.deepEqual([refreshes(), machine.kimi?.access_token], [1, access]);
  });

  test("does not count once it is tombstoned, broken or cut off", async () => {
    for (const content of ['{"access_token":"","refresh_token":""}', "{", "", "[]", '"text"']) {
      mkdirSync(dirname(machine.kimiPath), { recursive: true });
      writeFileSync(machine.kimiPath, content);
      assert.equal(addon.hasCliLogin(machine.request()), false, content);
      assert.deepEqual(await cliLogin(), {}, content);
    }
  });

  test("many at once in one process cause one refresh", async () => {
    simulator.oauth.tokenDelayMs = 300;
    machine.kimiLogin(simulator.oauth.login(), -10);
    const all = await Promise.all(Array.from({ length: 20 }, () => cliLogin()));
    assert.deepEqual([new Set(all.map((one) => one.access)).size, refreshes()], [1, 1]);
  });

  test("many at once cause one refresh also where the lock is switched off", async () => {
    simulator.oauth.tokenDelayMs = 300;
    machine.kimiLogin(simulator.oauth.login(), -10);
    await Promise.all(Array.from({ length: 20 }, () => cliLogin({ KIMI_DISABLE_OAUTH_LOCK: "1" })));
    assert.equal(refreshes(), 1);
  });

  test("is never touched by a login of another host", async () => {
    const home = join(machine.home, ".kimi-code", "credentials");
    mkdirSync(home, { recursive: true });
    const login = JSON.stringify({ access_token: "a", refresh_token: "r", expires_at: 1, expires_in: 900 });
    writeFileSync(join(home, "kimi-code.json"), login);
    machine.piLogin(simulator.oauth.login(), -1);
    assert.ok((await renew(machine.pi as Entry)).credential);
    assert.equal(readFileSync(join(home, "kimi-code.json"), "utf8"), login);
  });
});

describe("a 401", () => {
  test("heals wherever it comes from, with one refresh and one replay", async () => {
    const calls: [endpoint: string, ask: () => Promise<string>][] = [
      ["models", () => addon.refreshModels(machine.request())],
      ["usages", () => addon.usage(machine.request(), 0)],
      ["me", () => addon.profile(machine.request())],
    ];
    for (const [endpoint, ask] of calls) {
      machine.kimiLogin(simulator.oauth.login(), 800);
      simulator.oauth.revokeAccess();
      simulator.requests.length = 0;
      const answer = JSON.parse(await ask()) as Answer;
      assert.equal(answer.error, undefined, `${endpoint}: ${answer.error?.message}`);
      // The cache lifetimes follow the model list.
      const requests = simulator.requests.filter((one) => one.endpoint !== "client_configs");
      assert.deepEqual(
        requests.map((one) => [one.endpoint, one.status]),
        [
          [endpoint, 401],
          ["token", 200],
          [endpoint, 200],
        ],
      );
    }
    assert.equal(refreshes(), calls.length);
  });

  test("speaks of the login to those who signed in, and of the key to those who have one", async () => {
    machine.kimiLogin(simulator.oauth.login(), 800);
    simulator.intercept("chat", { status: 401 }, { status: 401 });
    const login = await machine.nodeTurn();
    assert.equal(login.code, "unauthorized");
    assert.match(login.error ?? "", /no longer valid.*kimi\.login\(\)/);
    assert.doesNotMatch(login.error ?? "", /key/i);
    const key = await machine.nodeTurn({ key: "sk-kimi-wrong" });
    assert.match(key.error ?? "", /KIMI_API_KEY/);
    assert.doesNotMatch(key.error ?? "", /no longer valid|sk-kimi-wrong/);
  });

  /** A turn whose request is refused late; meanwhile `change` happens on disk. */
  async function whileItRuns(change: () => void): Promise<NodeTurn> {
    simulator.intercept("chat", { status: 401, delayMs: 600 });
    const turn = machine.nodeTurn();
    await simulator.waitForRequest((one) => one.endpoint === "chat", 30_000);
    change();
    return turn;
  }

  test("finds the login that a person has made meanwhile, and spends nothing", async () => {
    machine.piLogin(simulator.oauth.login(), 800);
    const next = simulator.oauth.login();
    assert.deepEqual(await whileItRuns(() => machine.piLogin(next, 900)), { text: "ok" });
    assert.equal(simulator.oauth.refreshCalls, 0);
    assert.equal(simulator.requests.at(-1)?.headers["authorization"], `Bearer ${next.access}`);
  });

  test("after a logout ends the turn and brings nothing back", async () => {
    machine.piLogin(simulator.oauth.login(), 800);
    const { code, error } = await whileItRuns(() => writeFileSync(machine.authPath, "{}"));
    assert.equal(code, "login_required");
    assert.match(error ?? "", /kimi\.login\(\)/);
    assert.equal(readFileSync(machine.authPath, "utf8"), "{}");
    assert.equal(simulator.oauth.refreshCalls, 0);
  });

  test("of a key in auth.json is never answered with the login that lies beside it", async () => {
    machine.kimiLogin(simulator.oauth.login(), 800);
    const content = JSON.stringify({ "kimi-coding": { type: "api_key", key: "sk-kimi-wrong" } });
    writeFileSync(machine.authPath, content);
    const { code } = await machine.nodeTurn({ key: "sk-kimi-wrong" });
    assert.equal(code, "unauthorized");
    assert.deepEqual([simulator.oauth.refreshCalls, simulator.requests.length], [0, 1]);
    assert.equal(readFileSync(machine.authPath, "utf8"), content);
  });
});

test("custom headers travel along, without touching identity, credentials or the connection, and stay ASCII", async () => {
  machine.kimiLogin(simulator.oauth.login(), -5);
  const lines = [
    "X-Team: grün",
    "Authorization: Bearer stolen",
    "User-Agent: me",
    "X-Msh-Platform: x",
    "Content-Length: 3",
  ];
  const env = { KIMI_CODE_CUSTOM_HEADERS: [...lines, "Transfer-Encoding: chunked", "Host: elsewhere"].join("\n") };
  assert.deepEqual(await machine.nodeTurn({ env }), { text: "ok" });
  const [token, chat] = simulator.requests;
  assert.equal(token?.headers["x-team"], undefined, "the OAuth host is told nothing");
  assert.equal(chat?.headers["x-team"], "grn");
  assert.equal(chat?.headers["authorization"], `Bearer ${machine.kimi?.access_token}`);
  assert.match(chat?.headers["user-agent"] ?? "", /pi-provider-kimi-code/);
  assert.equal(chat?.headers["x-msh-platform"], undefined);
  assert.equal(chat?.headers["host"], new URL(simulator.origin).host);
});

// Nothing of ours asks the service for the time, so a wrong clock shows only in dates that were stored before it was set.
describe("a clock that is wrong by an hour", () => {
  test("ahead: a good login looks expired, which costs one refresh and no more", async () => {
    machine.kimiLogin(simulator.oauth.login(), 800 - 3600);
    assert.deepEqual(await machine.nodeTurn(), { text: "ok" });
    assert.deepEqual(await machine.nodeTurn(), { text: "ok" });
    assert.equal(refreshes(), 1);
    assert.equal(simulator.requests.filter((one) => one.status === 401).length, 0);
  });

  test("behind: an ended login looks fresh, and the service's 401 heals it", async () => {
    for (const pi of [false, true]) {
      const login = simulator.oauth.login();
      machine.kimiLogin(login, 800 + 3600);
      if (pi) machine.piLogin(login, 800 + 3600);
      simulator.oauth.revokeAccess();
      assert.deepEqual(await machine.nodeTurn(), { text: "ok" });
    }
    assert.equal(refreshes(), 2);
  });

  test("set between two logins: the younger is spent although the older seems to live longer", async () => {
    const old = simulator.oauth.login();
    simulator.oauth.expiresIn = 901;
    const newer = simulator.oauth.rotate(old.refresh);
    assert.ok(typeof newer === "object");
    machine.piLogin(old, 100 + 3600);
    machine.kimiLogin(newer, -5);
    simulator.oauth.revokeAccess();
    assert.deepEqual(await machine.nodeTurn(), { text: "ok" });
    assert.equal(refreshes(), 2);
  });

  test("locks of a neighbour with another clock do not block for good", async () => {
    for (const age of [3600, -3600]) {
      machine.kimiLogin(simulator.oauth.login(), -5);
      mkdirSync(machine.lockPath, { recursive: true });
      const time = Date.now() / 1000 - age;
      utimesSync(machine.lockPath, time, time);
      assert.deepEqual(await machine.nodeTurn(), { text: "ok" });
    }
    assert.equal(refreshes(), 2);
  });
});
