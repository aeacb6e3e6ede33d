/** What a long lifetime must not change: memory, threads, descriptors, handles, event loop delay. */
import { readdirSync } from "node:fs";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";

export interface Vitals {
  /** Megabytes. */
  rss: number;
  /** Megabytes of JavaScript. */
  heap: number;
  threads: number;
  /** Open files and sockets. */
  files: number;
  /** Handles that keep the process alive. */
  handles: number;
}

/** Counts entries of a folder of this process; 0 where there is no /proc. */
function own(folder: string): number {
  try {
    return readdirSync(`/proc/self/${folder}`).length;
  } catch {
    return 0;
  }
}

/** Vitals as they are, garbage collected where Node allows it. */
export function vitals(): Vitals {
  globalThis.gc?.();
  const { rss, heapUsed } = process.memoryUsage();
  const handles = process.getActiveResourcesInfo().filter((name) => !/^(TTY|Pipe|Timeout)/.test(name)).length;
  return { rss: rss / 1e6, heap: heapUsed / 1e6, threads: own("task"), files: own("fd"), handles };
}

/** Vitals after everything under way had time to end. */
export async function settled(ms = 500): Promise<Vitals> {
  await sleep(ms);
  return vitals();
}

export interface Delay {
  p50: number;
  p99: number;
  worst: number;
}

/** Measures the event loop delay in milliseconds until it is stopped. */
export function watchLoop(): () => Delay {
  const loop = monitorEventLoopDelay({ resolution: 1 });
  loop.enable();
  return () => {
    loop.disable();
    // The monitor's own interval is not a delay.
    const delay = (nanoseconds: number): number => Math.max(0, nanoseconds / 1e6 - 1);
    return { p50: delay(loop.percentile(50)), p99: delay(loop.percentile(99)), worst: delay(loop.max) };
  };
}

/** Samples of RSS over time, in megabytes. */
export class Growth {
  readonly samples: number[] = [];

  sample(): void {
    this.samples.push(vitals().rss);
  }

  /** Median of the last quarter minus that of the second; the first one warms up. */
  get megabytes(): number {
    const quarter = Math.floor(this.samples.length / 4);
    if (quarter === 0) return 0;
    return median(this.samples.slice(-quarter)) - median(this.samples.slice(quarter, 2 * quarter));
  }
}

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0;
}
