/** One measurement in a process of its own: `child.ts <subject> <streams>`, prints one line of JSON. */
import { monitorEventLoopDelay, performance } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import type { Subject } from "./cases.ts";
import { subject } from "./subjects.ts";

export interface Measured {
  wall: number;
  /** Busy time of the main thread. */
  main: number;
  /** Worst delay of the event loop. */
  delay: number;
  /** User and system time of all threads. */
  cpu: number;
  rssMb: number;
  events: number;
}

const [name, streams] = process.argv.slice(2);
const { BENCH_URL = "", BENCH_KEY = "" } = process.env;
const run = await subject(name as Subject, BENCH_URL, BENCH_KEY);

// One short answer first: what is loaded or connected on first use belongs to the start of a session.
await run();
globalThis.gc?.();
await sleep(50);

const loop = monitorEventLoopDelay({ resolution: 1 });
const rss = process.memoryUsage.rss();
loop.enable();
await sleep(20);
loop.reset();
const cpu = process.cpuUsage();
const busy = performance.eventLoopUtilization();
const start = performance.now();
const events = await Promise.all(Array.from({ length: Number(streams) }, run));
const wall = performance.now() - start;
const { active } = performance.eventLoopUtilization(busy);
const { user, system } = process.cpuUsage(cpu);
await sleep(5);
loop.disable();
const measured: Measured = {
  wall,
  main: active,
  // The monitor counts from one tick of its own to the next; the tick itself is no delay.
  delay: Math.max(0, loop.max / 1e6 - 1),
  cpu: (user + system) / 1000,
  rssMb: (process.memoryUsage.rss() - rss) / 1e6,
  events: events.reduce((sum, one) => sum + one, 0),
};
console.log(JSON.stringify(measured));
