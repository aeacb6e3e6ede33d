/** Measures growth: concurrent streams, argument lengths and the history of a session must scale about linearly. */
import type { Bench } from "./bench.ts";
import { repeat, type Subject } from "./cases.ts";
import type { ChildSpec, Measured } from "./child.ts";
import type { Scenario } from "../simulator/types.ts";

const OURS: Subject[] = ["ours", "ours-anthropic"];

/** Formats a series as a table; `unit` says what the sizes count. */
async function series(
  bench: Bench,
  title: string,
  unit: string,
  sizes: number[],
  of: (size: number, subject: Subject) => [Scenario, ChildSpec],
): Promise<void> {
  const rows: string[][] = [];
  for (const subject of OURS) {
    const seen: Measured[] = [];
    for (const size of sizes) seen.push(await bench.measure(...of(size, subject)));
    rows.push([`${subject}, CPU ms`, ...seen.map(({ cpu }) => cpu.toFixed(0))]);
    rows.push([`${subject}, main thread's CPU ms`, ...seen.map(({ mainCpu }) => mainCpu.toFixed(1))]);
    rows.push([`${subject}, RSS + MB`, ...seen.map(({ rssMb }) => rssMb.toFixed(0))]);
  }
  bench.report.say(`**growth**: ${title}`, "");
  bench.report.table([unit, ...sizes.map(String)], rows);
}

export async function growth(bench: Bench): Promise<void> {
  const scale = bench.quick ? 0.1 : 1;
  await series(
    bench,
    `streams side by side, ${5000 * scale} text deltas each`,
    "streams",
    [1, 2, 4, 8, 16, 32, 64],
    (size, subject) => [{ steps: [repeat("text", 5000 * scale)] }, { subject, streams: size }],
  );
  await series(
    bench,
    "one call, KB of arguments in 4-character deltas",
    "KB",
    [50, 100, 200, 400, 800],
    (size, subject) => [{ steps: [repeat("arguments", size * 250 * scale)] }, { subject }],
  );
  await bench.unlimited((unlimited) =>
    series(unlimited, "a turn over a history of so many MB", "MB", [0.1, 0.5, 1, 2, 4, 8], (size, subject) => [
      { steps: [{ text: "ok" }] },
      { subject, historyBytes: size * 1e6 * scale },
    ]),
  );
}
