/** What the economy of a plan costs: time per request beside others, wake-ups while one waits, and the line in the ledger. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { LoadTask } from "../plan/load.ts";
import type { Bench } from "./bench.ts";
import type { GovernorSpec } from "./governor-child.ts";

/** Requests of other processes that are under way. */
const OTHERS = [0, 1, 60];

/** Goal for the time that the governor adds to a request, in milliseconds. */
const COST_GOAL = 0.3;

/** Goal for the wake-ups of our threads per second while a request waits. */
const WAKEUP_GOAL = 2;

/** The same while nothing waits. */
const IDLE_GOAL = 0;

/** Goal for what the ledger adds to a request on the main thread, in microseconds. */
const LEDGER_GOAL = 50;

interface Taken {
  ms: number;
  /** A tenth of the turns took less. */
  tenthMs: number;
  mainUs: number;
}

/** Creates a home whose requests are limited to `max` at once and that has no place for one kind of state. */
function makeHome(max: number, blocked?: "slots" | "ledger"): string {
  const home = mkdtempSync(join(tmpdir(), "kimi-bench-"));
  const state = join(home, ".pi", "pi-provider-kimi-code");
  mkdirSync(state, { recursive: true, mode: 0o700 });
  writeFileSync(`${state}.json`, JSON.stringify({ concurrency: { max } }));
  if (blocked !== undefined) writeFileSync(join(state, blocked), "");
  return home;
}

/** Starts a process that holds `streams` slots. */
async function hold(bench: Bench, home: string, streams: number): Promise<ChildProcess | undefined> {
  if (streams === 0) return undefined;
  await bench.service.setDefault({ steps: [{ text: "Yes" }, { pauseMs: 900_000 }] });
  const task: LoadTask = { streams, rounds: 1 };
  const child = spawn(process.execPath, [join(import.meta.dirname, "..", "plan", "load.ts"), JSON.stringify(task)], {
    env: {
      ...process.env,
      HOME: home,
      KIMI_CODE_BASE_URL: bench.service.baseUrl,
      KIMI_API_KEY: bench.service.apiKey,
      KIMI_CODE_IDENTITY: "kimi-code",
    },
    stdio: ["ignore", "pipe", "inherit"],
  });
  let output = "";
  for await (const text of child.stdout?.setEncoding("utf8") ?? []) {
    output += text as string;
    if (output.split('"start"').length > streams) break;
    if (output.includes('"failed"')) throw new Error(output);
  }
  return child;
}

/** Compares turns with a line in the ledger and without. */
async function ledger(
  bench: Bench,
  run: (home: string, without: string) => Promise<Record<"one" | "other", Taken>>,
): Promise<void> {
  const [home, without] = [makeHome(100), makeHome(100, "ledger")];
  try {
    await bench.service.setDefault({ steps: [{ text: "word" }] });
    const { one, other } = await run(home, without);
    const added = Math.max(0, one.mainUs - other.mainUs);
    const main = bench.report.bar("ledger, on the main thread per turn", added, "µs", LEDGER_GOAL);
    const text = `${one.mainUs.toFixed(0)} with it, ${other.mainUs.toFixed(0)} without; the end of the turn ${(one.ms - other.ms).toFixed(2)} ms later`;
    bench.report.say(`- Ledger, CPU time of the main thread per turn: ${main} µs more (${text}).`, "");
  } finally {
    for (const folder of [home, without]) rmSync(folder, { recursive: true, force: true });
  }
}

export async function governor(bench: Bench): Promise<void> {
  const run = async <T>(spec: GovernorSpec): Promise<T> =>
    JSON.parse(await bench.program("governor-child.ts", [JSON.stringify(spec)])) as T;
  const turns = bench.quick ? 30 : 300;
  const rows: string[][] = [];
  for (const others of OTHERS) {
    await bench.service.reset();
    const [home, without] = [makeHome(100), makeHome(100, "slots")];
    const holder = await hold(bench, home, others);
    try {
      await bench.service.setDefault({ steps: [{ text: "word" }] });
      const { one, other } = await run<Record<"one" | "other", Taken>>({ kind: "cost", home, without, turns });
      const added = bench.report.bar(`governor, beside ${others}`, one.ms - other.ms, "ms", COST_GOAL);
      const tenth = (one.tenthMs - other.tenthMs).toFixed(2);
      rows.push([String(others), one.ms.toFixed(2), other.ms.toFixed(2), added, tenth]);
    } finally {
      holder?.kill("SIGKILL");
      for (const folder of [home, without]) rmSync(folder, { recursive: true, force: true });
    }
  }
  bench.report.say("**governor**: a turn that is answered at once, counted across processes and not, medians", "");
  bench.report.table(["others under way", "counted ms", "not counted ms", "added ms", "added, fastest tenth"], rows);
  await ledger(bench, (home, without) => run({ kind: "cost", home, without, turns }));
  if (process.platform !== "linux") return;
  const home = makeHome(1);
  const seconds = 10;
  const idle = await run<{ perSecond: number }>({ kind: "idle", home, seconds });
  const quiet = bench.report.bar("governor, wake-ups while nothing waits", idle.perSecond, "/s", IDLE_GOAL);
  bench.report.say(`- Wake-ups of our threads after an answer, while nothing waits: ${quiet} a second.`, "");
  const holder = await hold(bench, home, 1);
  try {
    const { perSecond } = await run<{ perSecond: number }>({ kind: "waiting", home, seconds });
    const woken = bench.report.bar("governor, wake-ups while a request waits", perSecond, "/s", WAKEUP_GOAL);
    bench.report.say(`- Wake-ups of our threads while a request waits for a slot: ${woken} a second.`, "");
  } finally {
    holder?.kill("SIGKILL");
    rmSync(home, { recursive: true, force: true });
  }
}
