/** Waiting for the service: what the screen and stderr show meanwhile. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Simulator } from "../simulator/index.ts";
import { type Home, runPi } from "../support/pi.ts";
import { Terminal } from "../support/terminal.ts";
import { withPi } from "../support/with-pi.ts";

let simulator: Simulator;
let home: Home;
withPi((...given) => {
  [simulator, home] = given;
  simulator.setDefault({ steps: [{ text: "Hello." }] });
});

const MODEL = ["--no-session", "--model", "kimi-coding/kimi-for-coding"];

function env(): Record<string, string | undefined> {
  return { KIMI_CODE_BASE_URL: simulator.baseUrl, KIMI_API_KEY: simulator.apiKey };
}

const LIMITED = { status: 429, headers: { "retry-after": "4" }, body: { error: { message: "slow down" } } };

test("retry, on a screen → working line with the key that cancels, footer set apart from the quota", async () => {
  const pi = new Terminal(MODEL, { home, env: env() });
  try {
    await pi.waitFor(/Kimi 5h/);
    simulator.intercept("chat", LIMITED);
    await pi.submit("hi");
    const screen = await pi.waitFor(/rate limit, attempt 2 of \d+ in \d s \(escape to cancel\)/);
    assert.match(screen, /Kimi: rate limit, attempt 2 of \d+ in \d s │ Kimi 5h 9%/);
    await pi.waitFor(/Hello\./);
    await pi.waitFor(/^(?![^]*attempt 2)[^]*Kimi 5h 9%/);
  } finally {
    await pi.close();
  }
});

test("retry, on a screen: the key → the turn ends", async () => {
  const pi = new Terminal(MODEL, { home, env: env() });
  try {
    await pi.waitFor(/Kimi 5h/);
    simulator.intercept("chat", { ...LIMITED, headers: { "retry-after": "50" } });
    await pi.submit("hi");
    await pi.waitFor(/\(escape to cancel\)/);
    pi.press("Escape");
    await pi.waitFor(/abort/i);
  } finally {
    await pi.close();
  }
});

test("persistent 5xx, print mode → stderr names the attempt and the wait, stdout has the answer", async () => {
  const broken = { status: 502, headers: { "retry-after": "1" }, body: "" };
  simulator.intercept("chat", broken, broken, broken);
  const { stdout, stderr, code } = await runPi(["-p", ...MODEL, "hi"], { home, env: env() });
  assert.deepEqual([code, stdout.trim()], [0, "Hello."]);
  assert.deepEqual(
    stderr
      .trim()
      .split("\n")
      .map((line) => /attempt (\d+) of \d+ in \d+ s$/.exec(line)?.[1]),
    ["3", "4"],
  );
});

test("single failure, print mode → nothing on stderr", async () => {
  simulator.intercept("chat", { status: 502, body: "" });
  const { stdout, stderr } = await runPi(["-p", ...MODEL, "hi"], { home, env: env() });
  assert.deepEqual([stdout.trim(), stderr], ["Hello.", ""]);
});
