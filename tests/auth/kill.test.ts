/** A small storm of `kill -9`; the big one is `node tests/auth/kill-storm.ts 1000`. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, utimesSync } from "node:fs";
import { test } from "node:test";
import { killStorm } from "./kill-storm.ts";
import type { Simulator } from "../simulator/index.ts";
import { type Machine, withMachine } from "../support/account.ts";

let simulator: Simulator;
let machine: Machine;
withMachine((...given) => ([simulator, machine] = given));

test("killing a program at a random point of its refresh loses no login", async () => {
  const storm = await killStorm(Number(process.env["KIMI_TEST_KILLS"] ?? 24));
  assert.deepEqual([storm.lost, storm.reuses], [[], 0], JSON.stringify(storm));
  // The official client's lock is stale after 5 s; the rest is the successor's own work.
  assert.ok(storm.longestWaitMs < 15_000, JSON.stringify(storm));
});

test("what a killed program leaves behind blocks its successor no longer than the lock's stale time", async () => {
  const login = simulator.oauth.login();
  machine.kimiLogin(login, -5);
  machine.piLogin(login, -5);
  mkdirSync(machine.lockPath, { recursive: true });
  mkdirSync(`${machine.authPath}.lock`);
  const then = Date.now() / 1000 - 31;
  utimesSync(`${machine.authPath}.lock`, then, then);
  const started = Date.now();
  assert.equal((await machine.nodeTurn()).text, "ok");
  assert.ok(Date.now() - started < 20_000);
  assert.deepEqual([simulator.oauth.refreshes, simulator.oauth.reuses], [1, 0]);
});

test("quitting while the refresh token is on its way waits for its successor", async () => {
  simulator.oauth.tokenDelayMs = 3000;
  const login = simulator.oauth.login();
  machine.kimiLogin(login, -5);
  machine.piLogin(login, -5);
  let pid = 0;
  const turn = machine.nodeTurn({ started: (started) => (pid = started) });
  await simulator.waitForRequest(({ endpoint }) => endpoint === "token", 60_000);
  process.kill(pid, "SIGTERM");
  assert.equal((await turn).error, "ended without an answer");
  assert.equal(simulator.oauth.refreshes, 1);
  assert.ok(simulator.oauth.isAlive(machine.kimi?.refresh_token ?? ""));
  assert.deepEqual([existsSync(machine.lockPath), existsSync(`${machine.authPath}.lock`)], [false, false]);
});
