/**
 * Measures the governor in a process of its own: `governor-child.ts <JSON of GovernorSpec>` prints one line of JSON.
 *
 * `cost` compares turns with those in another home, whose slots or ledger cannot be used, one after the other. `waiting` counts how often
 * the threads are woken while a request waits for a slot, `idle` the same after one that was answered.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { runOne, addon } from "../support/turn.ts";
import { threadSwitches } from "./measure.ts";
import { median } from "./report.ts";

export type GovernorSpec =
  | { kind: "cost"; home: string; without: string; turns: number }
  | { kind: "waiting" | "idle"; home: string; seconds: number };

const spec = JSON.parse(process.argv[2] ?? "{}") as GovernorSpec;
const { BENCH_URL: baseUrl = "", BENCH_KEY: apiKey = "" } = process.env;
const native = addon();

interface Taken {
  ms: number;
  /** CPU time of the main thread in microseconds. */
  mainUs: number;
}

const turn = async (home: string, signal?: AbortSignal): Promise<Taken> => {
  const options = signal === undefined ? {} : { options: { signal } };
  const thread = process.threadCpuUsage();
  const { took: ms, message } = await runOne(native, { baseUrl, apiKey, env: { HOME: home }, ...options });
  if (message.stopReason === "error") throw new Error(message.errorMessage);
  const { user, system } = process.threadCpuUsage(thread);
  return { ms, mainUs: user + system };
};

async function cost(home: string, without: string, turns: number): Promise<object> {
  const [counted, free]: [Taken[], Taken[]] = [[], []];
  for (let at = -10; at < turns; at += 1) {
    const [one, other] = [await turn(home), await turn(without)];
    if (at < 0) continue;
    counted.push(one);
    free.push(other);
  }
  const medians = (all: Taken[]): Taken & { tenthMs: number } => ({
    ms: median(all.map(({ ms }) => ms)),
    mainUs: median(all.map(({ mainUs }) => mainUs)),
    // What a busy machine disturbs least.
    tenthMs: all.map(({ ms }) => ms).toSorted((a, b) => a - b)[Math.floor(all.length / 10)] ?? 0,
  });
  return { one: medians(counted), other: medians(free) };
}

async function waiting(home: string, seconds: number): Promise<object> {
  const stop = new AbortController();
  const turnEnded = turn(home, stop.signal);
  const result = await wakeups(seconds);
  stop.abort();
  await turnEnded;
  return result;
}

async function idle(home: string, seconds: number): Promise<object> {
  await turn(home);
  return wakeups(seconds);
}

async function wakeups(seconds: number): Promise<{ perSecond: number }> {
  await sleep(1500);
  const before = threadSwitches();
  await sleep(seconds * 1000);
  let woken = 0;
  // Node's own threads wake up whether anything waits or not.
  for (const [task, { name, count }] of threadSwitches()) {
    if (name.startsWith("kimi-code")) woken += count - (before.get(task)?.count ?? 0);
  }
  return { perSecond: woken / seconds };
}

const watch = spec.kind === "idle" ? idle : waiting;
const result =
  spec.kind === "cost" ? await cost(spec.home, spec.without, spec.turns) : await watch(spec.home, spec.seconds);
console.log(JSON.stringify(result));
process.exit();
