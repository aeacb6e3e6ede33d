/**
 * Every fault that the network or the service may have, met by a request that waited for its quota window and holds the plan's only
 * slot: the outcome is as without waiting, and the slot is free afterwards. Another refusal by the quota, although `/usages` says that the
 * window is open, is waited out.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Kimi } from "../../index.ts";
import { PlanWindows } from "../simulator/index.ts";
import { Home } from "../support/pi.ts";
import { fiveHours } from "../support/plan.ts";
import { DIALECTS } from "../support/turn.ts";
import { catalogue, type Fault } from "./cases.ts";
import { broken, unexpected } from "./checks.ts";
import { withoutProxies } from "./document.ts";
import { FaultSetup, SHORT } from "./fault-setup.ts";
import { startForeignHost, type ForeignHost } from "./foreign-host.ts";
import { type Cell, expected, type Played } from "./matrix.ts";
import { playChat } from "./play-chat.ts";

/** When windows open: late enough to meet a used-up one on a slow machine. */
const OPENS_MS = 20_000;

const isOfQuota = ({ fault }: Cell): boolean => fault.code === "quota_exhausted";

/** Waits for a window, meets the fault, and asks once more when the fault is over. */
async function play(cell: Cell, setup: FaultSetup): Promise<Played> {
  const home = new Home();
  try {
    await setup.arrange(cell);
    await setup.heal();
    setup.simulator.plan.windows = new PlanWindows(() => [fiveHours(OPENS_MS)]);
    const kimi = new Kimi({
      baseUrl: setup.base,
      apiKey: setup.simulator.apiKey,
      env: { ...SHORT, HOME: home.home, PI_CODING_AGENT_DIR: home.agent, KIMI_CODE_PROTOCOL: setup.dialect },
      onQuota: "wait",
      settings: { concurrency: { max: 1 } },
    });
    let parked = 0;
    const start = performance.now();
    const onParked = async (): Promise<void> => {
      parked += 1;
      if (parked > 1) return;
      // From now on the windows are open and the fault is there, for the first request that comes.
      await setup.arrange(cell);
    };
    const { outcome, problems, attempts } = await playChat(kimi, "hi", { onParked });
    const seen = { outcome, requests: setup.requests ?? attempts, problems, took: performance.now() - start };
    if (parked !== (isOfQuota(cell) ? 2 : 1)) problems.push(`parked ${parked} times`);
    await setup.heal();
    const next = await playChat(kimi, "hi");
    if (next.outcome !== "answer") problems.push(`the next request: ${next.outcome}`);
    return { ...cell, seen };
  } finally {
    await setup.close();
    home.remove();
  }
}

describe("fault that a request meets after waiting for its window", () => {
  let foreign: ForeignHost;
  let cells: Played[];

  before(async () => {
    withoutProxies();
    foreign = await startForeignHost();
    const faults: Fault[] = catalogue(foreign.origin).filter(({ place }) => place !== "world");
    const arranged = faults.map((fault, at): Cell => ({
      fault,
      column: "chat, once",
      way: DIALECTS[at % 2] ?? "openai",
    }));
    // All of them first, because a window does not wait for a machine that is busy with the others' beginnings.
    const setups = await Promise.all(arranged.map(async (cell) => ({ cell, setup: await FaultSetup.open() })));
    cells = await Promise.all(setups.map(({ cell, setup }) => play(cell, setup)));
  });
  after(() => foreign.close());

  test("every call → parks once or, refused again, twice, ends once, and leaves its slot to the next", () =>
    assert.deepEqual(broken(cells), []));

  test("every failure → as without waiting, except a quota that refuses once more", () =>
    assert.deepEqual(
      unexpected(cells, (cell) => (isOfQuota(cell) ? "answer ×2" : expected(cell))),
      [],
    ));
});
