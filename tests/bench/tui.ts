/** Measures the cost of showing an answer: 9 KB of Markdown at 200 deltas a second in Pi's terminal interface. */
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Home, ROOT } from "../support/pi.ts";
import { Terminal } from "../support/terminal.ts";
import type { Bench } from "./bench.ts";
import { median } from "./report.ts";

const DELTAS = 1000;
const PER_SECOND = 200;
/** Ticks per second in /proc, the same on every Linux that Node supports. */
const TICKS = 100;

/** User and system time of a process so far, in milliseconds. */
export function cpuTime(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
    .replace(/^.*\) /, "")
    .split(" ");
  return ((Number(fields[11]) + Number(fields[12])) * 1000) / TICKS;
}

/** Opens Pi in a terminal, in a new home, and has it answer once. */
export async function openPi(
  bench: Bench,
  extensions: string[],
  env: Record<string, string>,
): Promise<{ terminal: Terminal; close: () => void }> {
  const home = new Home();
  // The built-in provider has no variable for its base URL; Pi's file of models has.
  const providers = { "kimi-coding": { baseUrl: bench.service.baseUrl } };
  if (extensions.length === 0) writeFileSync(join(home.agent, "models.json"), JSON.stringify({ providers }));
  const terminal = new Terminal(["--model", "kimi-coding/kimi-for-coding"], { home, env, extensions });
  const close = (): void => {
    terminal.close();
    home.remove();
  };
  try {
    await terminal.waitFor(/kimi-for-coding/);
    await bench.service.reset();
    await bench.service.enqueue({ steps: [{ text: "warm-up done" }] });
    await terminal.submit("warm");
    await terminal.waitFor(/warm-up done/);
    await sleep(1000);
    return { terminal, close };
  } catch (error) {
    close();
    throw error;
  }
}

async function once(bench: Bench, extensions: string[], env: Record<string, string>): Promise<number> {
  const { terminal, close } = await openPi(bench, extensions, env);
  try {
    await bench.service.setDefault({
      steps: [
        { repeat: { kind: "text", count: DELTAS, text: "**so** on\n", perSecond: PER_SECOND } },
        { text: "THE END" },
      ],
    });
    const before = cpuTime(terminal.pid);
    await terminal.submit("go");
    await terminal.waitFor(/THE END/);
    await sleep(500);
    return cpuTime(terminal.pid) - before;
  } finally {
    close();
  }
}

export async function tui(bench: Bench): Promise<void> {
  if (process.platform !== "linux") {
    bench.report.say("- TUI cost: needs Linux.");
    return;
  }
  const key = { KIMI_API_KEY: bench.service.apiKey };
  const ours: number[] = [];
  const builtIn: number[] = [];
  for (let run = 0; run < bench.runs; run += 1) {
    builtIn.push(await once(bench, [], key));
    ours.push(await once(bench, [ROOT], { ...key, KIMI_CODE_BASE_URL: bench.service.baseUrl }));
  }
  const [mine, theirs] = [median(ours), median(builtIn)];
  bench.report.say(
    `- CPU of Pi while it shows ${DELTAS} deltas at ${PER_SECOND}/s: built-in ${theirs.toFixed(0)} ms, ours ` +
      `${mine.toFixed(0)} ms (${(mine / theirs).toFixed(2)}×).`,
  );
}
