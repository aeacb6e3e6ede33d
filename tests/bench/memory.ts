/** Measures RSS over many turns in one process: `memory.ts <turns>` prints one line of JSON. Run with --expose-gc. */
import { subject } from "./subjects.ts";

const turns = Number(process.argv[2]);
const { BENCH_URL: baseUrl = "", BENCH_KEY: apiKey = "" } = process.env;
const run = await subject("ours", { baseUrl, apiKey });

/** Minimum of several readings, because uncollected garbage is not growth. */
function rss(): number {
  globalThis.gc?.();
  globalThis.gc?.();
  return process.memoryUsage.rss() / 1e6;
}

// Pools, caches and compiled code fill up during the first fifth.
const settled = Math.floor(turns / 5);
for (let turn = 0; turn < settled; turn += 1) await run();
const before = rss();
for (let turn = settled; turn < turns; turn += 1) await run();
const after = rss();
console.log(
  JSON.stringify({
    turns,
    beforeMb: before,
    afterMb: after,
    growthKbPerTurn: ((after - before) * 1000) / (turns - settled),
  }),
);
