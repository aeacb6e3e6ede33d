/**
 * `npm run soak [-- --minutes 10 --streams 64 --turns 10000 --only turns]`
 *
 * Measures long lifetimes: concurrent streams, consecutive turns, many aborts, threads and processes that end at any moment.
 * Prints a table and writes `.cache/soak.json`; exits with 1 if a goal is missed. Run `npm run build` before: a debug addon has
 * other numbers.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { loadavg } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { ROOT } from "../support/pi.ts";
import type { Report } from "./loads.ts";
import { DIALECTS } from "../support/turn.ts";
import { complaint, complaints, ENDINGS, Ground, type Load, PIECES } from "./runs.ts";

const { values: flags } = parseArgs({
  options: {
    minutes: { type: "string", default: "10" },
    streams: { type: "string", default: "64" },
    turns: { type: "string", default: "10000" },
    only: { type: "string", default: "" },
  },
});
const wanted = (name: string): boolean => flags.only === "" || flags.only.split(",").includes(name);
const streams = Number(flags.streams);

/** Growth of RSS between the second and the last quarter that counts as allocator noise, in megabytes. */
const FLAT = 10;

/** Goal for the event loop delay, in milliseconds. */
const DELAY = 15;

/** Goal for the peak of RSS above idle while an answer without end is read, in megabytes. */
const ENDLESS = 200;

const ground = await Ground.make();
const results: Record<string, Report & { load: number; problems: string[] }> = {};
let failed = false;

async function load(name: Load, connections: number, ...numbers: number[]): Promise<void> {
  if (!wanted(name)) return;
  const report = await ground.run(name, numbers);
  const problems = complaints(report, connections, FLAT);
  const late = name === "streams" && report.delay.p99 > DELAY;
  if (late) problems.push(`event loop late by ${report.delay.p99.toFixed(1)} ms at p99`);
  failed ||= problems.length > 0;
  results[name] = { ...report, load: loadavg()[0] ?? 0, problems };
  const { before, after, delay } = report;
  const cells = [
    name,
    String(report.turns),
    report.seconds.toFixed(0),
    `${before.rss.toFixed(0)} → ${after.rss.toFixed(0)}, ${report.growth.toFixed(1)}`,
    `${before.heap.toFixed(1)} → ${after.heap.toFixed(1)}`,
    `${before.threads} → ${after.threads}`,
    `${before.files} → ${after.files}`,
    `${before.handles} → ${after.handles}`,
    `${delay.p50.toFixed(1)}, ${delay.p99.toFixed(1)}, ${delay.worst.toFixed(1)}`,
    problems.join("; ") || "✓",
  ];
  console.log(`| ${cells.join(" | ")} |`);
}

try {
  console.log(
    "| load | turns | s | RSS MB, growth | heap MB | threads | files | handles | loop delay ms: p50, p99, worst | |",
  );
  console.log("|---|---:|---:|---|---|---|---|---|---|---|");
  await load("turns", 16, Number(flags.turns));
  await load("aborts", 64, 1000);
  await load("workers", 16, 60);
  await load("streams", 2 * streams, streams, Number(flags.minutes) * 60);

  if (wanted("endless")) {
    for (const dialect of DIALECTS) {
      for (const kind of PIECES) {
        const { outcome, megabytes } = await ground.endless(kind, dialect);
        failed ||= outcome !== "answer_too_large" || megabytes > ENDLESS;
        console.log(`1 GB of ${kind}, ${dialect}: ended with ${outcome}, peak RSS + ${megabytes.toFixed(0)} MB`);
      }
    }
  }

  if (wanted("endings")) {
    for (const way of ENDINGS) {
      const delays = way === "return" ? [0] : [0, 5, 20, 50, 90, 150, 300];
      const endings = [];
      for (const delay of delays) endings.push(complaint(way, await ground.end(way, delay)));
      const bad = endings.filter((one) => one !== undefined);
      failed ||= bad.length > 0;
      console.log(`${way}, ${delays.length} processes: ${bad.join("; ") || "✓"}`);
    }
  }
} finally {
  ground.remove();
}
mkdirSync(join(ROOT, ".cache"), { recursive: true });
writeFileSync(join(ROOT, ".cache", "soak.json"), `${JSON.stringify(results, null, 2)}\n`);
process.exitCode = failed ? 1 : 0;
