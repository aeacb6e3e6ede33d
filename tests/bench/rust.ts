/**
 * `npm run bench:rust [-- --quick] [--save]`
 *
 * Measures the computing parts with criterion next to a yardstick: the time serde_json takes to read the same JSON in the same
 * run. Their ratio hardly depends on the machine and is kept in `tests/bench/baseline.json`; a ratio that grew by more than 30 %
 * is a regression and fails the command.
 */
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";

const ROOT = join(import.meta.dirname, "..", "..");
const RESULTS = join(ROOT, "target", "criterion");
const BASELINE = join(import.meta.dirname, "baseline.json");

/** How much a part may slow down, relative to its yardstick. */
const TOLERANCE = 1.3;

/** Largest share of the time for a body that its record for the prompt cache may take. */
const MOST_FOR_CACHE = 0.02;

/** Parts that other JSON readers are measured beside, with the goal in MB/s. */
const READERS: Record<string, number> = { "answer, chat": 500, "answer, messages": 450, arguments: 400 };

/** What is measured, in the order of a turn. */
const PARTS = [
  "body, chat",
  "body, messages",
  "cache chain",
  "60 tools, new",
  "60 tools, seen before",
  "events",
  "answer, chat",
  "answer, messages",
  "arguments",
];

interface Part {
  /** Megabytes per second on the measuring machine. */
  mbPerSecond: number;
  /** Milliseconds for the whole input on the measuring machine. */
  milliseconds: number;
  /** Our time divided by the yardstick. */
  ratio: number;
}

type Baseline = Record<string, Part>;

const { values: flags } = parseArgs({
  options: { quick: { type: "boolean", default: false }, save: { type: "boolean", default: false } },
});

/** Median time of one iteration, in nanoseconds. */
function median(part: string, subject: string): number {
  const file = join(RESULTS, part, subject, "new", "estimates.json");
  const estimates = JSON.parse(readFileSync(file, "utf8")) as { median: { point_estimate: number } };
  return estimates.median.point_estimate;
}

function bytes(part: string): number {
  const file = join(RESULTS, part, "ours", "new", "benchmark.json");
  const { throughput } = JSON.parse(readFileSync(file, "utf8")) as { throughput: { Bytes: number } };
  return throughput.Bytes;
}

function measured(part: string): Part {
  const ours = median(part, "ours");
  return {
    mbPerSecond: Math.round((bytes(part) / ours) * 1e4) / 10,
    milliseconds: Number((ours / 1e6).toPrecision(3)),
    ratio: Number((ours / median(part, "yardstick")).toPrecision(3)),
  };
}

function readBaseline(): Baseline {
  try {
    return JSON.parse(readFileSync(BASELINE, "utf8")) as Baseline;
  } catch {
    return {};
  }
}

const { status } = spawnSync(
  "cargo",
  [
    "bench",
    "--locked",
    "--bench",
    "request",
    "--bench",
    "stream",
    "--",
    "--noplot",
    ...(flags.quick ? ["--quick"] : []),
  ],
  { cwd: ROOT, stdio: ["ignore", "inherit", "inherit"], env: { ...process.env, CRITERION_HOME: RESULTS } },
);
if (status !== 0) process.exit(status ?? 1);

const now: Baseline = Object.fromEntries(PARTS.map((part) => [part, measured(part)]));
const before = flags.save ? now : readBaseline();
const slower: string[] = [];
console.log("\n| part | MB/s | ms | in yardsticks | baseline |\n|---|---:|---:|---:|---:|");
for (const [part, { mbPerSecond, milliseconds, ratio }] of Object.entries(now)) {
  const kept = before[part]?.ratio;
  const grown = kept !== undefined && ratio > kept * TOLERANCE;
  if (grown) slower.push(part);
  const perSecond = part === "60 tools, new" ? ` (${Math.round(60_000 / milliseconds)} tools/s)` : "";
  console.log(
    `| ${part} | ${mbPerSecond} | ${milliseconds}${perSecond} | ${ratio} | ${kept ?? "–"}${grown ? " ✗" : ""} |`,
  );
}
console.log("\n| part | goal | ours | serde_json | sonic-rs | simd-json |\n|---|---:|---:|---:|---:|---:|");
for (const [part, goal] of Object.entries(READERS)) {
  // The bytes of the stream, also for readers that see its JSON only.
  const rate = (subject: string): number => Math.round((bytes(part) / median(part, subject)) * 1e3);
  const ours = rate("ours");
  const others = ["yardstick", "sonic-rs", "simd-json"].map(rate);
  console.log(`| ${part}, MB/s | ≥ ${goal}${ours >= goal ? " ✓" : " ✗"} | ${[ours, ...others].join(" | ")} |`);
}
if (flags.save) {
  writeFileSync(BASELINE, `${JSON.stringify(now, null, 2)}\n`);
  console.log(`\nSaved as the baseline: ${BASELINE}`);
}
const share = now["cache chain"]!.milliseconds / now["body, chat"]!.milliseconds;
console.log(
  `\nThe prompt cache's records take ${(share * 100).toFixed(1)} % of the time that a body takes; goal: ${MOST_FOR_CACHE * 100} %.`,
);
if (share > MOST_FOR_CACHE) process.exitCode = 1;
if (slower.length > 0) {
  console.error(
    `\nSlower than the baseline by more than 30 %: ${slower.join("; ")}. Measure again on a quiet machine.`,
  );
  process.exit(1);
}
