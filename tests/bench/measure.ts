/** Measures the cost of work in this process. Run with --expose-gc. */
import { readdirSync, readFileSync } from "node:fs";
import { monitorEventLoopDelay, performance } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";

/** Milliseconds and megabytes. */
export interface Span {
  wall: number;
  /** Busy time of the main thread, including waiting for a core. */
  main: number;
  /** CPU time of the main thread. */
  mainCpu: number;
  /** Worst delay of the event loop. */
  delay: number;
  /** User and system time of all threads. */
  cpu: number;
  /** Peak growth of the resident set. */
  rssMb: number;
}

const maxRss = (): number => process.resourceUsage().maxRSS * 1024;

export async function measure(work: () => Promise<unknown>): Promise<Span> {
  globalThis.gc?.();
  await sleep(50);
  const loop = monitorEventLoopDelay({ resolution: 1 });
  const rss = process.memoryUsage.rss();
  const peak = maxRss();
  loop.enable();
  await sleep(20);
  loop.reset();
  const cpu = process.cpuUsage();
  const thread = process.threadCpuUsage();
  const busy = performance.eventLoopUtilization();
  const start = performance.now();
  await work();
  const wall = performance.now() - start;
  const { active } = performance.eventLoopUtilization(busy);
  const mine = process.threadCpuUsage(thread);
  const { user, system } = process.cpuUsage(cpu);
  await sleep(5);
  loop.disable();
  // The peak never falls, so it belongs to this work only if this work raised it.
  const highest = Math.max(process.memoryUsage.rss(), maxRss() > peak ? maxRss() : 0);
  return {
    wall,
    main: active,
    mainCpu: (mine.user + mine.system) / 1000,
    // The monitor's own interval is not a delay.
    delay: Math.max(0, loop.max / 1e6 - 1),
    cpu: (user + system) / 1000,
    rssMb: Math.max(0, highest - rss) / 1e6,
  };
}

/** Voluntary context switches of all threads, by id. */
export function threadSwitches(): Map<string, { name: string; count: number }> {
  const all = new Map<string, { name: string; count: number }>();
  for (const task of readdirSync("/proc/self/task")) {
    const status = readFileSync(`/proc/self/task/${task}/status`, "utf8");
    const name = /^Name:\t(.*)$/m.exec(status)?.[1] ?? task;
    const count = Number(/^voluntary_ctxt_switches:\t(\d+)$/m.exec(status)?.[1]);
    all.set(task, { name, count });
  }
  return all;
}

/** The same, by name. */
export function switches(): Map<string, number> {
  const all = new Map<string, number>();
  for (const { name, count } of threadSwitches().values()) all.set(name, (all.get(name) ?? 0) + count);
  return all;
}
