/**
 * Counts how often the threads of this process are woken while streams flow: `wakeups-child.ts <JSON of WakeupsSpec>` prints one line of
 * JSON. Every voluntary context switch is a wake-up later on.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { switches } from "./measure.ts";
import { subject } from "./subjects.ts";

export interface WakeupsSpec {
  subject: "ours" | "ours-anthropic" | "floor";
  streams: number;
  seconds: number;
}

export interface Wakeups {
  perSecond: number;
  cpuMsPerSecond: number;
  /** Names of the threads with their share, for the report. */
  threads: Record<string, number>;
}

const spec = JSON.parse(process.argv[2] ?? "{}") as WakeupsSpec;
const { BENCH_URL: baseUrl = "", BENCH_KEY: apiKey = "" } = process.env;
const run = await subject(spec.subject, { baseUrl, apiKey });
await run(); // the first connection and lazy loading
for (let stream = 0; stream < spec.streams; stream += 1) void run().catch(() => {});
// Past the first output of every stream.
await sleep(1500);
const before = switches();
const cpu = process.cpuUsage();
const start = performance.now();
await sleep(spec.seconds * 1000);
const seconds = (performance.now() - start) / 1000;
const { user, system } = process.cpuUsage(cpu);
const threads: Record<string, number> = {};
let total = 0;
for (const [name, count] of switches()) {
  const share = (count - (before.get(name) ?? 0)) / seconds;
  total += share;
  if (share >= 1) threads[name] = Math.round(share);
}
const result: Wakeups = { perSecond: total, cpuMsPerSecond: (user + system) / 1000 / seconds, threads };
console.log(JSON.stringify(result));
process.exit();
