/** The stream in real Pi, in both dialects: tool loop, retries by one layer only, messages to the user, abort. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { faults } from "../simulator/faults.ts";
import type { Simulator } from "../simulator/index.ts";
import { cut, pause, text, think } from "../simulator/scenario.ts";
import { type Home, messages, type PiEvent, runPi, textOf } from "../support/pi.ts";
import { DIALECTS } from "../support/turn.ts";
import { withPi } from "../support/with-pi.ts";
import { answerRequests } from "../support/simulator.ts";

const MODEL = ["--model", "kimi-coding/kimi-for-coding"];

let simulator: Simulator;
let home: Home;
const open = withPi((...given) => ([simulator, home] = given));

/** Number of chat requests; Pi's session also requests models and quota. */
function turns(): number {
  return answerRequests(simulator).length;
}

for (const dialect of DIALECTS) {
  const env = (more: Record<string, string> = {}): Record<string, string> => ({
    KIMI_CODE_BASE_URL: simulator.baseUrl,
    KIMI_API_KEY: simulator.apiKey,
    KIMI_CODE_PROTOCOL: dialect,
    ...more,
  });

  describe(`stream in real Pi, ${dialect}`, () => {
    test("two answers with the same call ids → two rows", async () => {
      const bash = (command: string): object => ({ toolCall: { id: "bash:0", name: "bash", arguments: { command } } });
      simulator.enqueue(
        { steps: [think("Hm."), bash("echo one")] as never },
        { steps: [think("Hm."), bash("echo two")] as never },
        { steps: [text("both done")] },
      );
      const pi = await runPi(["--mode", "json", "--no-session", ...MODEL, "run both"], { home, env: env() });
      const ids = pi.events.filter(({ type }) => type === "tool_execution_start").map((event) => event["toolCallId"]);
      assert.deepEqual(ids, ["bash:0", "bash:0__2"]);
      assert.equal(textOf(messages(pi.events).at(-1)), "both done");
      assert.equal(simulator.requests.filter(({ status }) => status === 200).length, 3, "nothing was refused");
    });

    test("lasting overload → retried by one layer only", async () => {
      simulator.setDefault(faults.overloaded);
      const extra = env({ KIMI_LOOP_MAX_ATTEMPTS_PER_STEP: "2" });
      const pi = await runPi(["--mode", "json", "--no-session", ...MODEL, "hi"], { home, env: extra });
      assert.equal(turns(), 2);
      assert.equal(pi.events.filter(({ type }) => type === "auto_retry_start").length, 0);
      assert.match(messages(pi.events).at(-1)?.errorMessage ?? "", /Gave up after 2 attempts/);
    });

    test("answer cut in the middle → Pi retries by its own rules and shows it once", async () => {
      home.settings({ retry: { enabled: true, maxRetries: 3, baseDelayMs: 50 } });
      simulator.enqueue({ steps: [text("half an ans"), pause(60), cut("close")] }, { steps: [text("whole answer")] });
      const pi = await runPi(["-p", "--no-session", ...MODEL, "hi"], { home, env: env() });
      assert.equal(pi.stdout.trim(), "whole answer", pi.stderr);
      assert.equal(turns(), 2);
    });

    test("waiting for a retry → shown, and Esc ends it at once", async () => {
      simulator.enqueue({ http: { status: 429, headers: { "retry-after": "30" }, body: "too many requests" } });
      const pi = open(["--no-session", ...MODEL], { home, env: env() });
      await pi.command({ type: "prompt", message: "hi" });
      const shown = (event: PiEvent): boolean =>
        event.type === "extension_ui_request" && /rate limit, attempt 2 of 10 in/.test(JSON.stringify(event));
      await pi.waitFor(shown);
      const start = performance.now();
      await pi.command({ type: "abort" });
      await pi.waitFor(({ type }) => type === "agent_settled");
      assert.ok(performance.now() - start < 15_000);
      await sleep(200);
      assert.equal(turns(), 1);
      assert.equal(messages(pi.events).at(-1)?.stopReason, "aborted");
    });
  });
}
