/**
 * A slice of the fault matrix inside real Pi: one process per dialect, fault after fault in one session.
 *
 * Pi's own retries are off, so what it reports is what we told it: one message per prompt, with the words that were shown and the kind
 * of failure in its text. The whole matrix runs through the client (reliability.test.ts).
 */
import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { catalogue, type Fault } from "./faults/cases.ts";
import { Relay } from "./faults/relay.ts";
import { startThief, type Thief } from "./faults/thief.ts";
import { faults as answers } from "./simulator/faults.ts";
import { type Simulator, startSimulator } from "./simulator/index.ts";
import { call, pause, text } from "./simulator/scenario.ts";
import { Home, messages, RpcPi, runPi, textOf } from "./support/pi.ts";
import { realPng } from "./support/pictures.ts";
import { DIALECTS } from "./support/turn.ts";

const MODEL = ["--no-session", "--model", "kimi-coding/kimi-for-coding"];
const BEFORE = "First words.";
const AFTER = " Second words.";
const SHORT = {
  KIMI_CODE_HEADERS_TIMEOUT_MS: "2000",
  KIMI_CODE_FIRST_TIMEOUT_MS: "2000",
  KIMI_CODE_GAP_TIMEOUT_MS: "2000",
  KIMI_LOOP_MAX_ATTEMPTS_PER_STEP: "2",
};

/** Name of a fault, and what Pi must say about it. */
const LASTING: [name: string, says: RegExp][] = [
  ["reset before the answer", /Gave up after 2 attempts.*connection error/],
  ["closed behind the head", /Gave up after 2 attempts.*connection error/],
  ["silence in the head", /Gave up after 2 attempts.*timeout.*while waiting for the response/],
  ["garbage instead of HTTP", /Gave up after 2 attempts.*connection error/],
  ["401, key or login refused", /^401 .*no longer valid.*\/login/],
  ["402, membership", /^402 .*membership/],
  ["403, client", /^403 .*"identity": "kimi-code"/],
  ["429, Retry-After: 600", /asks to wait 10 min/],
  ["500", /Gave up after 2 attempts.*500/],
  ["200, but HTML", /Gave up after 2 attempts.*text\/html instead of a stream: Sign in to the hotel/],
  ["307 to another host", /^307 a redirect, which is never followed/],
  ["end without a finish", /Gave up after 2 attempts/],
];
const RECOVERING = ["reset behind the head", "silence before the answer", "503, overloaded, Retry-After: 1"];
const AFTER_OUTPUT = ["reset behind the head", "silence behind the head", "garbage behind the head", "error event"];

let thief: Thief;
let all: Fault[];
let simulator: Simulator;
let relay: Relay;
let home: Home;

before(async () => {
  thief = await startThief();
  all = catalogue(thief.origin);
  simulator = await startSimulator();
  relay = await Relay.to(simulator.origin);
  home = new Home();
  home.settings({ retry: { enabled: false } });
});
after(async () => {
  assert.deepEqual(thief.heard, []);
  home.remove();
  await Promise.all([thief.close(), relay.close(), simulator.close()]);
});

function fault(name: string): Fault {
  const found = all.find((one) => one.name === name);
  assert.ok(found, name);
  return found;
}

function env(more: Record<string, string> = {}): Record<string, string> {
  return { KIMI_CODE_BASE_URL: `${relay.origin}/coding`, KIMI_API_KEY: simulator.apiKey, ...SHORT, ...more };
}

/** Lets the next `times` answers of `path` fail. */
function arm(one: Fault, path: string, endpoint: string, times: number): void {
  simulator.reset();
  simulator.setDefault({ steps: [text(BEFORE), text(AFTER)] });
  const from = relay.count(path);
  relay.rule = () => undefined;
  if (one.place === "wire") relay.rule = (asked, at) => (asked === path && at <= from + times ? one.strike : undefined);
  if (one.place === "http") simulator.intercept(endpoint, ...Array.from({ length: times }, () => one.answer));
  if (one.place === "stream") simulator.enqueue(...Array.from({ length: times }, () => ({ steps: one.steps })));
}

for (const dialect of DIALECTS) {
  describe(`real Pi, ${dialect}`, () => {
    const path = dialect === "openai" ? "/coding/v1/chat/completions" : "/coding/v1/messages";
    const endpoint = dialect === "openai" ? "chat" : "messages";
    let pi: RpcPi;
    before(() => (pi = new RpcPi(MODEL, { home, env: env({ KIMI_CODE_PROTOCOL: dialect }) })));
    after(() => pi.close());

    /** Asks and returns the one message that came of it. */
    async function ask(): Promise<{ stop: string | undefined; says: string; error: string; requests: number }> {
      const from = relay.count(path);
      const events = await pi.prompt("hi");
      const [message, ...more] = messages(events);
      assert.equal(more.length, 0, "one message");
      assert.equal(events.filter(({ type }) => type === "agent_settled").length, 1);
      const { stopReason: stop, errorMessage: error = "" } = message ?? {};
      return { stop, error, says: textOf(message), requests: relay.count(path) - from };
    }

    for (const [name, says] of LASTING) {
      test(`${name}: one error, in words`, async () => {
        const one = fault(name);
        arm(one, path, endpoint, 2);
        const seen = await ask();
        assert.deepEqual([seen.stop, seen.says, seen.requests], ["error", "", one.again ? 2 : 1]);
        assert.match(seen.error, says);
      });
    }

    for (const name of RECOVERING) {
      test(`${name}, once: the answer, said once`, async () => {
        arm(fault(name), path, endpoint, 1);
        const seen = await ask();
        assert.deepEqual([seen.stop, seen.says, seen.requests], ["stop", BEFORE + AFTER, 2], seen.error);
      });
    }

    for (const name of AFTER_OUTPUT) {
      test(`${name}, after output: the words stay, nobody is asked again`, async () => {
        const one = fault(name);
        arm(one, path, endpoint, 0);
        const from = relay.count(path);
        const late = [text(BEFORE), pause(150)];
        if (one.place === "stream") simulator.enqueue({ steps: [...late, ...one.steps] });
        if (one.place === "wire") {
          const strike = { ...one.strike, at: AFTER.slice(0, 7) };
          simulator.enqueue({ steps: [...late, text(AFTER)] });
          relay.rule = (asked, at) => (asked === path && at === from + 1 ? strike : undefined);
        }
        const seen = await ask();
        assert.deepEqual([seen.stop, seen.says, seen.requests], ["error", BEFORE, 1], seen.error);
      });
    }

    test("a picture whose upload fails travels inside the request", async () => {
      arm(fault("500"), "/coding/v1/files", "files", 3);
      const data = realPng(800, 600, dialect).toString("base64");
      const from = relay.count("/coding/v1/files");
      const events = await pi.prompt("look", { images: [{ type: "image", data, mimeType: "image/png" }] });
      assert.equal(textOf(messages(events).at(-1)), BEFORE + AFTER, messages(events).at(-1)?.errorMessage);
      assert.equal(relay.count("/coding/v1/files") - from, 2);
    });
  });
}

describe("what is not a chat, in real Pi", () => {
  test("Pi starts and answers although models and quota cannot be had", async () => {
    arm(fault("502, HTML"), "", "models", 5);
    simulator.intercept("usages", ...Array.from({ length: 5 }, () => answers["error-502"].http ?? {}));
    const pi = await runPi(["-p", ...MODEL, "hi"], { home, env: env() });
    assert.deepEqual([pi.code, pi.stdout.trim(), pi.stderr], [0, BEFORE + AFTER, ""]);
  });

  test("a tool that fails is a result with the reason, and the turn goes on", async () => {
    mkdirSync(join(home.home, ".pi"), { recursive: true });
    const settings = { tools: { moonshot_search: { enabled: true } } };
    writeFileSync(join(home.home, ".pi", "pi-provider-kimi-code.json"), JSON.stringify(settings));
    const { access, refresh } = simulator.oauth.login();
    const entry = { type: "oauth", access, refresh, expires: Date.now() + 900_000 };
    arm(fault("reset behind the head"), "/coding/v1/search", "search", 1);
    simulator.credentials.add(access);
    writeFileSync(join(home.agent, "auth.json"), JSON.stringify({ "kimi-coding": entry }));
    simulator.enqueue({ steps: [call("moonshot_search", { query: "x" })] });
    const host = { KIMI_CODE_OAUTH_HOST: simulator.oauthHost, KIMI_API_KEY: "" };
    const pi = await runPi(["--mode", "json", ...MODEL, "search"], { home, env: env(host) });
    const ends = pi.events.filter(({ type }) => type === "tool_execution_end");
    assert.deepEqual(
      ends.map((event) => event["isError"]),
      [true],
      pi.stderr,
    );
    assert.match(JSON.stringify(ends[0]), /Moonshot search failed: connection error/);
    assert.equal(textOf(messages(pi.events).at(-1)), BEFORE + AFTER);
  });
});

test("retry.provider.maxRetries: 0 leaves trying again to Pi", async () => {
  const own = new Home();
  try {
    const retry = { enabled: true, maxRetries: 1, baseDelayMs: 50, provider: { maxRetries: 0 } };
    own.settings({ retry });
    arm(fault("503"), "/coding/v1/chat/completions", "chat", 5);
    const pi = await runPi(["--mode", "json", ...MODEL, "hi"], { home: own, env: env() });
    assert.equal(simulator.requests.filter(({ endpoint }) => endpoint === "chat").length, 2, "one each of Pi's two");
    assert.equal(pi.events.filter(({ type }) => type === "auto_retry_start").length, 1);
  } finally {
    own.remove();
  }
});
