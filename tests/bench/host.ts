/**
 * Measures real Pi in a terminal while a long answer grows: CPU of its process beside Pi's own provider in the same run, how often the
 * text moves, and how fast typed keys are shown.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { ROOT } from "../support/pi.ts";
import type { Terminal } from "../support/terminal.ts";
import type { Bench } from "./bench.ts";
import { median } from "./report.ts";
import { cpuTime, openPi } from "./tui.ts";

/** The answer: numbered lines of 24 characters, 200 of them a second. */
const LINES = 4600;
const PER_SECOND = 200;
/** The part of it that is measured: from 65 to 108 KB. */
const FIRST = 2700;
const LAST = 4500;
/** Time between two looks at the screen, in milliseconds. */
const LOOK_MS = 15;

interface Host {
  /** Milliseconds of CPU per second. */
  cpu: number;
  /** How often per second the last line on the screen is another one. */
  moves: number;
  /** Median of the time until a key is on the screen, in milliseconds. */
  key: number;
}

/** Returns the number of the last line on the screen. */
function lastLine(screen: string): number {
  return Math.max(0, ...[...screen.matchAll(/line (\d{5})/g)].map(([, number]) => Number(number)));
}

async function watch(terminal: Terminal): Promise<Host> {
  while (lastLine(terminal.screen()) < FIRST) await sleep(50);
  const [start, cpu] = [performance.now(), cpuTime(terminal.pid)];
  let [shown, moves, typed, pressed] = [0, 0, 0, 0];
  const keys: number[] = [];
  while (shown < LAST) {
    const screen = terminal.screen();
    const now = performance.now();
    const line = lastLine(screen);
    if (line !== shown) moves += 1;
    shown = line;
    if (typed > keys.length && screen.includes("q".repeat(typed))) keys.push(now - pressed);
    // One key after the other, three a second.
    if (typed === keys.length && now - pressed > 330) {
      typed += 1;
      pressed = now;
      terminal.type("q");
    }
    await sleep(LOOK_MS);
  }
  const seconds = (performance.now() - start) / 1000;
  return { cpu: (cpuTime(terminal.pid) - cpu) / seconds, moves: moves / seconds, key: median(keys) };
}

async function once(bench: Bench, extensions: string[], env: Record<string, string>): Promise<Host> {
  const { terminal, close } = await openPi(bench, extensions, env);
  try {
    const line = (number: number): string => `line ${String(number).padStart(5, "0")} **is bold**\n`;
    const text = Array.from({ length: LINES }, (_, number) => line(number)).join("");
    await bench.service.setDefault({ steps: [{ text, size: 24, pauseMs: 1000 / PER_SECOND }] });
    await terminal.submit("go");
    return await watch(terminal);
  } finally {
    close();
  }
}

export async function host(bench: Bench): Promise<void> {
  if (process.platform !== "linux") return bench.report.say("**host**: needs Linux", "");
  const key = { KIMI_API_KEY: bench.service.apiKey };
  const [ours, builtIn]: [Host[], Host[]] = [[], []];
  for (let run = 0; run < bench.runs; run += 1) {
    builtIn.push(await once(bench, [], key));
    ours.push(await once(bench, [ROOT], { ...key, KIMI_CODE_BASE_URL: bench.service.baseUrl }));
  }
  const of = (results: Host[], member: keyof Host): number => median(results.map((result) => result[member]));
  const { report } = bench;
  const cpu = of(ours, "cpu");
  const share = report.bar("CPU of Pi on a long answer", cpu / of(builtIn, "cpu"), "× built-in", 0.3);
  const interval = report.bar("time between two movements of the text", 1000 / of(ours, "moves"), "ms", 250);
  const typing = report.bar("a typed key is shown", of(ours, "key"), "ms", 50);
  report.say(
    "**host**: Pi in a terminal while an answer grows from 65 to 108 KB, 200 deltas of 24 characters a second",
    "",
  );
  report.table(
    ["provider", "CPU ms/s", "× built-in", "ms between two movements", "key shown after ms"],
    [
      [
        "built-in",
        of(builtIn, "cpu").toFixed(0),
        "1",
        (1000 / of(builtIn, "moves")).toFixed(0),
        of(builtIn, "key").toFixed(0),
      ],
      ["ours", cpu.toFixed(0), share, interval, typing],
    ],
  );
}
