/**
 * Counts how often the threads of this process are woken while streams flow: `wakeups-child.ts <JSON of WakeupsSpec>` prints one line of
 * JSON. Every voluntary context switch is a wake-up later on.
 */
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
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

/** Voluntary context switches of all threads, by name. */
function switches(): Map<string, number> {
  const all = new Map<string, number>();
  for (const task of readdirSync("/proc/self/task")) {
    const status = readFileSync(`/proc/self/task/${task}/status`, "utf8");
    const name = /^Name:\t(.*)$/m.exec(status)?.[1] ?? task;
    const count = Number(/^voluntary_ctxt_switches:\t(\d+)$/m.exec(status)?.[1]);
    all.set(name, (all.get(name) ?? 0) + count);
  }
  return all;
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
