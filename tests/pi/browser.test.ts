/** Signing in: who opens the browser. */
import assert from "node:assert/strict";
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Simulator } from "../simulator/index.ts";
import { type Machine, withPrograms } from "../support/account.ts";
import { piLevel } from "../support/pi-versions.ts";
import { Terminal } from "../support/terminal.ts";

let simulator: Simulator;
let machine: Machine;
const program = withPrograms((...given) => ([simulator, machine] = given));

/** From 1.5 on, Pi opens the page when the user presses Enter. */
const PI_OPENS = piLevel() >= 1005;

const opened = (): string[] => {
  const log = join(machine.path, "opened");
  return existsSync(log) ? readFileSync(log, "utf8").trim().split("\n") : [];
};

/** Starts a login with an `xdg-open` that writes down what it is asked to open, until the code is on the screen. */
async function startLogin(extra: Record<string, string | undefined>): Promise<Terminal> {
  const bin = join(machine.path, "bin");
  mkdirSync(bin);
  writeFileSync(join(bin, "xdg-open"), `#!/bin/sh\necho "$1" >> "${join(machine.path, "opened")}"\n`);
  chmodSync(join(bin, "xdg-open"), 0o755);
  simulator.oauth.scripts.push(["authorization_pending"]);
  const none = { SSH_CONNECTION: undefined, SSH_CLIENT: undefined, SSH_TTY: undefined, WAYLAND_DISPLAY: undefined };
  const env = machine.variables({ ...none, PATH: `${bin}${delimiter}${process.env["PATH"]}`, ...extra });
  const pi = program(new Terminal(["--no-session", "--model", "kimi-coding/kimi-for-coding"], { home: machine, env }));
  await pi.waitFor(/kimi-for-coding|No models|no model/i);
  await pi.submit("/login kimi-coding ");
  await pi.waitFor(/Sign in with Kimi Code/, 4000).catch(() => pi.press("Enter"));
  await pi.waitFor(/Sign in with Kimi Code/);
  pi.press("Enter");
  await pi.waitFor(/[0-9A-F]{4}-[0-9A-F]{4}/);
  await sleep(1000);
  return pi;
}

test("login with a display → the page is opened once, by us or by Pi on Enter, and the address is printed", async () => {
  const pi = await startLogin({ DISPLAY: ":0" });
  const screen = pi.screen();
  assert.match(screen, /https?:\/\//);
  assert.equal(screen.match(/waiting/gi)?.length, 1, "one line says that Pi waits");
  if (PI_OPENS) {
    assert.deepEqual(opened(), []);
    pi.press("Enter");
    await sleep(1500);
  }
  assert.equal(opened().length, 1);
  assert.match(opened()[0] ?? "", /^https?:\/\//);
});

for (const [where, extra] of [
  ["over SSH", { DISPLAY: ":0", SSH_CONNECTION: "10.0.0.1 1 10.0.0.2 22" }],
  ["without a display", { DISPLAY: undefined }],
] as const) {
  test(`login ${where} → nothing is opened, and the address is printed`, async () => {
    const pi = await startLogin(extra);
    assert.match(pi.screen(), /https?:\/\//);
    assert.deepEqual(opened(), []);
  });
}
