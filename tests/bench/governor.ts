/** What counting requests across processes costs: time per request beside others, and wake-ups while one waits. */
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

/** Creates a home whose requests are limited to `max` at once; a `blocked` one has no place for slots. */
function makeHome(max: number, blocked = false): string {
  const home = mkdtempSync(join(tmpdir(), "kimi-bench-"));
  const state = join(home, ".pi", "pi-provider-kimi-code");
  mkdirSync(state, { recursive: true, mode: 0o700 });
  writeFileSync(`${state}.json`, JSON.stringify({ concurrency: { max } }));
  if (blocked) writeFileSync(join(state, "slots"), "");
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

export async function governor(bench: Bench): Promise<void> {
  const run = async <T>(spec: GovernorSpec): Promise<T> =>
    JSON.parse(await bench.program("governor-child.ts", [JSON.stringify(spec)])) as T;
  const rows: string[][] = [];
  for (const others of OTHERS) {
    await bench.service.reset();
    const [home, without] = [makeHome(100), makeHome(100, true)];
    const holder = await hold(bench, home, others);
    try {
      await bench.service.setDefault({ steps: [{ text: "word" }] });
      const turns = bench.quick ? 30 : 300;
      const { countedMs, freeMs } = await run<{ countedMs: number; freeMs: number }>({
        ...{ kind: "cost", home, without, turns },
      });
      const added = bench.report.bar(`governor, beside ${others}`, countedMs - freeMs, "ms", COST_GOAL);
      rows.push([String(others), countedMs.toFixed(2), freeMs.toFixed(2), added]);
    } finally {
      holder?.kill("SIGKILL");
      for (const folder of [home, without]) rmSync(folder, { recursive: true, force: true });
    }
  }
  bench.report.say("**governor**: a turn that is answered at once, counted across processes and not, medians", "");
  bench.report.table(["others under way", "counted ms", "not counted ms", "added ms"], rows);
  if (process.platform !== "linux") return;
  const home = makeHome(1);
  const holder = await hold(bench, home, 1);
  try {
    const seconds = 10;
    const { perSecond } = await run<{ perSecond: number }>({ kind: "waiting", home, seconds });
    const woken = bench.report.bar("governor, wake-ups while a request waits", perSecond, "/s", WAKEUP_GOAL);
    bench.report.say(`- Wake-ups of our threads while a request waits for a slot: ${woken} a second.`, "");
  } finally {
    holder?.kill("SIGKILL");
    rmSync(home, { recursive: true, force: true });
  }
}
