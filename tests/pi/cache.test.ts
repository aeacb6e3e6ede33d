/** `/kimi-cache` and the question about an expired prompt, in real Pi (docs/caching.md). */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { PromptCacheReport } from "../../extension/messages.ts";
import type { Simulator } from "../simulator/index.ts";
import { type Home, type PiOptions, ROOT, runPi } from "../support/pi.ts";
import { Terminal } from "../support/terminal.ts";
import { withPi } from "../support/with-pi.ts";

let simulator: Simulator;
let home: Home;

const open = withPi((...given) => ([simulator, home] = given));

const MODEL = ["--model", "kimi-coding/kimi-for-coding"];

const connected = (env: Record<string, string | undefined> = {}): Record<string, string | undefined> => ({
  KIMI_CODE_BASE_URL: simulator.baseUrl,
  KIMI_API_KEY: simulator.apiKey,
  ...env,
});

const options = (): PiOptions => ({ home, env: connected() });

/** Prompts expire after ten minutes, and the clock of Pi's addon is in this file. */
function expiring(): { clock: string; env: Record<string, string | undefined> } {
  simulator.catalog.configs["estimated_cache_duration"] = {
    version: 1,
    config: { "kimi-for-coding": { cache_duration: 600, min_tokens_to_hint: 100 } },
  };
  const clock = join(home.path, "clock");
  writeFileSync(clock, "0");
  return { clock, env: { KIMI_TEST_CLOCK: clock, KIMI_CODE_MODEL_LIST: undefined } };
}

const questions = (): string[] =>
  simulator.requests.filter(({ endpoint }) => endpoint === "chat").map(({ rawBody }) => String(rawBody));

test("/kimi-cache --json: after two turns → both, the second one from the cache", async () => {
  const pi = open(["--no-session", ...MODEL], options());
  simulator.setDefault({ steps: [{ text: "fine" }] });
  await pi.prompt("one");
  await pi.prompt("two");
  const said = async (args: string): Promise<string> => {
    const from = pi.events.length;
    await pi.command({ type: "prompt", message: `/kimi-cache ${args}` });
    const event = await pi.waitFor((one) => one.type === "extension_ui_request" && one["method"] === "notify", from);
    return String(event["message"]);
  };
  const report = JSON.parse(await said("--json")) as PromptCacheReport;
  assert.deepEqual(
    report.requests.map(({ verdict, model }) => [verdict, model]),
    [
      ["grew", "kimi-for-coding"],
      ["grew", "kimi-for-coding"],
    ],
  );
  const [first, second] = report.requests;
  assert.equal(first?.cached, 0);
  assert.ok(Math.abs((second?.cached ?? 0) - (second?.predicted ?? 0)) <= 256);
  assert.deepEqual([...new Set(report.segments.map(({ kind }) => kind))], ["system", "tool", "message"]);
  assert.equal((JSON.parse(await said("--json --last 1")) as PromptCacheReport).requests.length, 1);
  assert.match(await said("--last x"), /--last needs a number/);
  assert.match(await said("--nonsense"), /--nonsense is unknown\. Use: \/kimi-cache/);
  assert.match(await said(""), /Prompt cache of kimi-for-coding: .* came from it[^]*system prompt[^]*tools 0–\d/);
});

test("/kimi-cache: an extension's tool that joins late → is named with its extension", async () => {
  const late = join(home.path, "late.mjs");
  writeFileSync(
    late,
    `const tool = { name: "late", label: "late", description: "Comes late.", parameters: { type: "object", properties: {} },
       execute: async () => ({ content: [] }) };
     export default (pi) => pi.on("input", ({ text }) => {
       if (text === "two") pi.registerTool(tool);
       return { action: "continue" };
     });`,
  );
  const pi = open(["--no-session", ...MODEL], { ...options(), extensions: [ROOT, late] });
  simulator.setDefault({ steps: [{ text: "fine" }] });
  await pi.prompt("one");
  await pi.prompt("two");
  const from = pi.events.length;
  await pi.command({ type: "prompt", message: "/kimi-cache" });
  const event = await pi.waitFor((one) => one.type === "extension_ui_request" && one["method"] === "notify", from);
  assert.match(String(event["message"]), /changed\n +tool \d: the tool late \(from .*\) joined/);
});

test("/kimi-cache: before the first request, and in print mode → says that nothing was sent", async () => {
  const { stdout } = await runPi(["-p", "--no-session", ...MODEL, "/kimi-cache"], options());
  assert.match(stdout, /Nothing has been sent/);
});

/** Asks a question in a terminal, lets time go by, asks a second one, and plays on from there. */
async function afterBreak(
  { args = [], minutes }: { args?: string[]; minutes: number },
  play: (pi: Terminal) => Promise<void>,
): Promise<void> {
  const { clock, env } = expiring();
  simulator.setDefault({ steps: [{ text: "fine" }] });
  const pi = new Terminal([...args, ...MODEL], { home, env: connected(env) });
  try {
    await pi.waitFor(/kimi-for-coding/);
    await pi.submit("first question");
    await pi.waitFor(/fine/);
    writeFileSync(clock, String(minutes * 60_000));
    await pi.submit("second question");
    await play(pi);
  } finally {
    pi.close();
  }
}

test("expired prompt: the user goes on → the question comes once, and the message is sent", async () => {
  await afterBreak({ args: ["--no-session"], minutes: 22 }, async (pi) => {
    await pi.waitFor(
      /the cache expired 1\d min ago: [\d.]+k? tokens will be read again[^]*Compact[^]*New session[^]*Continue/,
    );
    assert.equal(questions().length, 1);
    pi.press("Down");
    pi.press("Down");
    pi.press("Enter");
    await simulator.waitForRequest(({ rawBody }) => String(rawBody).includes("second question"));
    // Once for each pause.
    await pi.waitFor(/fine[^]*fine/);
    await pi.submit("third question");
    await simulator.waitForRequest(({ rawBody }) => String(rawBody).includes("third question"));
    assert.equal(questions().length, 3);
  });
});

test("expired prompt: Escape → nothing is sent and the message is back in the editor", async () => {
  await afterBreak({ args: ["--no-session"], minutes: 60 }, async (pi) => {
    await pi.waitFor(/the cache expired 5\d min ago/);
    pi.press("Escape");
    const screen = await pi.waitFor(/fine[^]*second question/);
    assert.doesNotMatch(screen, /the cache expired/);
    assert.equal(questions().length, 1);
  });
});

test("expired prompt: a new session → the message is its first one, without the old history", async () => {
  await afterBreak({ minutes: 20 }, async (pi) => {
    await pi.waitFor(/the cache expired 1\d min ago/);
    pi.press("Down");
    pi.press("Enter");
    await pi.waitFor(/\/kimi-cache --new second question/);
    pi.press("Enter");
    const { rawBody } = await simulator.waitForRequest((one) => String(one.rawBody).includes("second question"));
    assert.ok(!String(rawBody).includes("first question"));
  });
});

test("expired prompt: compact → the summary is asked for, then the message is sent", async () => {
  const { clock, env } = expiring();
  simulator.setDefault({ steps: [{ text: "fine. ".repeat(40) }] });
  // Everything but the last tokens is compacted.
  home.settings({ compaction: { keepRecentTokens: 10 } });
  const pi = new Terminal(MODEL, { home, env: connected(env) });
  try {
    await pi.waitFor(/kimi-for-coding/);
    for (const [n, question] of ["first question", "another question"].entries()) {
      await pi.submit(question);
      await simulator.waitForRequest(({ rawBody }) => String(rawBody).includes(question));
      await pi.waitFor(n === 0 ? /fine/ : /another question[^]*fine/);
    }
    writeFileSync(clock, String(20 * 60_000));
    await pi.submit("second question");
    await pi.waitFor(/the cache expired 1\d min ago/);
    pi.press("Enter");
    await simulator.waitForRequest(
      ({ rawBody }) => /summar/i.test(String(rawBody)) && !String(rawBody).includes("second question"),
    );
    await simulator.waitForRequest(({ rawBody }) => String(rawBody).includes("second question"));
  } finally {
    pi.close();
  }
});
