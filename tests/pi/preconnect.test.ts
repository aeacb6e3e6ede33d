/** The connection that is opened while the user types: real Pi in a terminal and without one. */
import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { RequestRecord, Simulator } from "../simulator/index.ts";
import { type Home, runPi } from "../support/pi.ts";
import { Terminal } from "../support/terminal.ts";
import { withPi } from "../support/with-pi.ts";
import { answerRequests } from "../support/simulator.ts";

let simulator: Simulator;
let home: Home;

withPi((...given) => ([simulator, home] = given));

const MODEL = ["--no-session", "--model", "kimi-coding/kimi-for-coding"];

const isPreconnect = ({ method, path }: RequestRecord): boolean => method === "HEAD" && path === "/coding";

/** Pi shows its first frame before it starts the session; the quota in the footer comes after that. */
const SESSION_STARTED = /resets [\w ]*\d\d:\d\d/;

function terminal(): Terminal {
  const env = { KIMI_CODE_BASE_URL: simulator.baseUrl, KIMI_API_KEY: simulator.apiKey };
  return new Terminal(MODEL, { home, env });
}

test("preconnect: typing → one request without credential, whose connection the prompt uses", async () => {
  const pi = terminal();
  try {
    await pi.waitFor(SESSION_STARTED);
    pi.type("he");
    const opened = await simulator.waitForRequest(isPreconnect);
    assert.equal(opened.headers["authorization"], undefined);
    assert.equal(opened.rawBody.length, 0);
    pi.type("llo");
    await pi.waitFor(/hello/);
    const known = new Set(simulator.requests.map(({ connection }) => connection));
    simulator.enqueue({ steps: [{ text: "Good morning." }] });
    pi.press("Enter");
    await pi.waitFor(/Good morning\./);
    const prompt = answerRequests(simulator)[0];
    assert.ok(prompt !== undefined && known.has(prompt.connection), "the prompt needed another connection");
    await pi.submit("and again");
    await pi.waitFor(/and again/);
    assert.equal(simulator.requests.filter(isPreconnect).length, 1, "once per idle minute");
  } finally {
    pi.close();
  }
});

test("preconnect: switched off → no such request", async () => {
  const settings = join(home.home, ".pi");
  mkdirSync(settings, { recursive: true });
  writeFileSync(join(settings, "pi-provider-kimi-code.json"), JSON.stringify({ network: { preconnect: false } }));
  const pi = terminal();
  try {
    await pi.waitFor(SESSION_STARTED);
    simulator.enqueue({ steps: [{ text: "Good morning." }] });
    await pi.submit("hello");
    await pi.waitFor(/Good morning\./);
    assert.deepEqual(simulator.requests.filter(isPreconnect), []);
  } finally {
    pi.close();
  }
});

test("preconnect: print mode → no such request", async () => {
  const env = { KIMI_CODE_BASE_URL: simulator.baseUrl, KIMI_API_KEY: simulator.apiKey };
  await runPi(["-p", ...MODEL, "hello"], { home, env });
  assert.deepEqual(simulator.requests.filter(isPreconnect), []);
  assert.ok(simulator.requests.length > 0);
});
