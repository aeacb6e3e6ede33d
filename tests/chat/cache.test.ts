/** Prompt cache: a growing conversation keeps what the service has read, and `npm run measure:cache` shows it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Kimi } from "../../index.ts";
import { documented, measure, measureLateTool, type Step, UPLOAD_ALL } from "../bench/prompt-cache.ts";
import type { Simulator } from "../simulator/index.ts";
import { withMachine } from "../support/account.ts";
import { run } from "../support/packages.ts";
import { type Home, ROOT } from "../support/pi.ts";

const CHUNK = 256;

let simulator: Simulator;
let home: Home;

withMachine((...given) => ([simulator, home] = given), { identityGate: "off" });

for (const protocol of ["openai", "anthropic"] as const) {
  test(`prompt cache, ${protocol}: only changes of the prompt → cost cached tokens`, async () => {
    const env = { HOME: home.home, PI_CODING_AGENT_DIR: home.agent };
    const { baseUrl, apiKey } = simulator;
    const kimi = new Kimi({ baseUrl, apiKey, env, settings: { ...UPLOAD_ALL, protocol } });
    const steps = await measure(kimi, "kimi-for-coding");
    const step = (name: string): Step => steps.find((one) => one.name === name) ?? assert.fail(name);
    const first = step("first question");
    assert.equal(first.cached, 0);
    // Whole 256-token blocks are cached; the rest of the last block is uncached.
    for (const [name, before] of [
      ["second question, a long one", first.prompt],
      ["third question", step("second question, a long one").prompt],
    ] as const) {
      const { cached } = step(name);
      assert.ok(
        cached % CHUNK === 0 && cached > before - 2 * CHUNK && cached <= before,
        `${name}: ${cached} of ${before}`,
      );
    }
    for (const name of [
      "the same again",
      "another session id",
      "another thinking level",
      "the tool as before",
      "the same image again",
    ]) {
      assert.equal(step(name).uncached, 0, name);
    }
    for (const name of ["a tool described differently", "another first line of the system prompt"]) {
      assert.equal(step(name).cached, 0, name);
    }
    const pictured = step("another image in its place");
    assert.ok(pictured.uncached > 0 && pictured.uncached < 2 * CHUNK, `${pictured.uncached} tokens read anew`);
  });
}

test("measure:cache: the table in docs/caching.md → is what the simulator shows", async () => {
  const env = { HOME: home.home, PI_CODING_AGENT_DIR: home.agent };
  const { baseUrl, apiKey } = simulator;
  const steps = await measure(new Kimi({ baseUrl, apiKey, env, settings: UPLOAD_ALL }), "kimi-for-coding");
  // Ids of uploaded images are random, and so are their tokens, by a few.
  const exact = (step: Step): Step =>
    step.name.includes("image")
      ? { ...step, prompt: 0, cached: step.uncached === 0 ? 0 : step.cached, uncached: Math.min(step.uncached, 1) }
      : step;
  assert.deepEqual(documented().map(exact), steps.map(exact), "run npm run measure:cache -- --write");
});

test("measure:cache: a tool that joins late → keeps the prefix where it joined, costs it at the top", async () => {
  const env = { HOME: home.home, PI_CODING_AGENT_DIR: home.agent };
  const { baseUrl, apiKey } = simulator;
  const steps: (Step | string)[] = [];
  await measureLateTool(new Kimi({ baseUrl, apiKey, env }), "k3", (step) => steps.push(step));
  const [before, top, inline] = steps as [Step, Step, Step];
  assert.equal(top.cached, 0);
  assert.ok(inline.cached > before.prompt - 2 * CHUNK, `${inline.cached} of ${before.prompt}`);
});

test("measure:cache --live without a credential → says what is missing, sends nothing", () => {
  const script = ["tests/bench/prompt-cache.ts", "--live"];
  assert.throws(() => run("node", script, ROOT, home.env()), /ended with 2\n.*set KIMI_API_KEY, or sign in/s);
});
