/** Worker threads that end, and a process that exits, while a token call is under way. */
import assert from "node:assert/strict";
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Simulator } from "../simulator/index.ts";
import { type Machine, withMachine } from "../support/account.ts";

let simulator: Simulator;
let machine: Machine;
withMachine((...given) => ([simulator, machine] = given));

interface Program {
  child: ChildProcessWithoutNullStreams;
  output: { stdout: string; stderr: string };
  ended: Promise<number | null>;
}

/** Starts a program in whose worker a login is refreshed, and waits until the refresh token is on its way. */
async function refreshingWorker(): Promise<Program> {
  simulator.oauth.tokenDelayMs = 2000;
  machine.kimiLogin(simulator.oauth.login(), -5);
  const script = join(import.meta.dirname, "..", "support", "worker-turn.ts");
  const child = spawn(process.execPath, [script], { cwd: machine.cwd, env: machine.env(machine.variables()) });
  const output = { stdout: "", stderr: "" };
  child.stdout.setEncoding("utf8").on("data", (text: string) => (output.stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (output.stderr += text));
  const ended = new Promise<number | null>((resolve) => child.on("close", resolve));
  await simulator.waitForRequest(({ endpoint }) => endpoint === "token", 60_000);
  return { child, output, ended };
}

async function until(condition: () => boolean): Promise<void> {
  for (let left = 200; left > 0 && !condition(); left -= 1) await sleep(50);
  assert.ok(condition());
}

test("worker.terminate() while only that worker had loaded the addon → the exchange finishes, nothing is printed", async () => {
  const { child, output, ended } = await refreshingWorker();
  child.stdin.write("terminate\n");
  await until(() => output.stdout.includes("terminated"));
  assert.equal(simulator.oauth.refreshes, 0, "the answer is still to come");
  await until(() => simulator.oauth.isAlive(machine.kimi?.refresh_token ?? "") && !existsSync(machine.lockPath));
  assert.deepEqual([simulator.oauth.refreshes, simulator.oauth.reuses], [1, 0]);
  child.stdin.end();
  assert.deepEqual([await ended, output.stderr], [0, ""]);
});

test("process.exit() after the worker that refreshed has ended → waits for the answer", async () => {
  const { child, output, ended } = await refreshingWorker();
  child.stdin.write("terminate\n");
  await until(() => output.stdout.includes("terminated"));
  child.stdin.write("exit\n");
  assert.deepEqual([await ended, output.stderr], [0, ""]);
  assert.equal(simulator.oauth.refreshes, 1);
  assert.ok(simulator.oauth.isAlive(machine.kimi?.refresh_token ?? ""));
  assert.equal(existsSync(machine.lockPath), false);
});
