/**
 * A process that is stopped while it waits (Ctrl-Z, `docker pause`, suspend) and woken later: healthy streams go on, and dead ones end
 * within their normal time after waking.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Simulator } from "../simulator/index.ts";
import { pause, text } from "../simulator/scenario.ts";
import type { Scenario } from "../simulator/types.ts";
import { type Machine, type NodeTurn, withMachine } from "../support/account.ts";
import { DIALECTS } from "../support/turn.ts";

/** Time limits of the turn, in milliseconds. */
const LIMIT = 2000;
/** How long the process is stopped, in milliseconds: longer than any limit of the turn. */
const STOP = 3500;

let simulator: Simulator;
let machine: Machine;

withMachine((...given) => ([simulator, machine] = given), { identityGate: "off" });

interface Stopped extends NodeTurn {
  /** From waking to the end of the turn, in milliseconds. */
  afterWakingMs: number;
}

/** Runs a turn in a process that is stopped as soon as its request has arrived. */
async function stopped(protocol: string, scenario: Scenario): Promise<Stopped> {
  simulator.setDefault(scenario);
  let pid = 0;
  const limits = ["HEADERS", "FIRST", "GAP", "THINKING_GAP"].map((name) => [
    `KIMI_CODE_${name}_TIMEOUT_MS`,
    `${LIMIT}`,
  ]);
  const env = { ...Object.fromEntries(limits), KIMI_CODE_PROTOCOL: protocol, KIMI_LOOP_MAX_ATTEMPTS_PER_STEP: "1" };
  const turn = machine.nodeTurn({ key: simulator.apiKey, env, started: (started) => (pid = started) });
  await simulator.waitForRequest(({ endpoint }) => endpoint === "chat" || endpoint === "messages", 60_000);
  await sleep(300);
  process.kill(pid, "SIGSTOP");
  await sleep(STOP);
  const woken = performance.now();
  process.kill(pid, "SIGCONT");
  return { ...(await turn), afterWakingMs: performance.now() - woken };
}

for (const protocol of DIALECTS) {
  describe(`stopped process, ${protocol}`, { concurrency: false }, () => {
    for (const [what, scenario] of [
      ["the head arrives while it is stopped", { headersDelayMs: 1500, steps: [text("ok")] }],
      ["the head arrives after waking", { headersDelayMs: STOP + 1000, steps: [text("ok")] }],
      ["the answer arrives while it is stopped", { steps: [text("o"), pause(1500), text("k")] }],
      ["the answer goes on after waking", { steps: [text("o"), pause(STOP + 1000), text("k")] }],
    ] satisfies [string, Scenario][]) {
      test(`${what} → the turn goes on`, async () => {
        const { text: answer, error } = await stopped(protocol, scenario);
        assert.deepEqual([answer, error], ["ok", undefined]);
      });
    }

    for (const [what, scenario] of [
      ["no head", { headersDelayMs: 120_000, steps: [text("late")] }],
      ["no more of the answer", { steps: [text("o"), pause(120_000), text("late")] }],
    ] satisfies [string, Scenario][]) {
      test(`${what} → the turn ends within its limit after waking`, async () => {
        const { code, afterWakingMs } = await stopped(protocol, scenario);
        assert.equal(code, "timeout");
        assert.ok(afterWakingMs > LIMIT * 0.8 && afterWakingMs < LIMIT + 10_000, `${afterWakingMs} ms`);
      });
    }
  });
}
