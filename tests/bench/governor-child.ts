/**
 * Measures the governor in a process of its own: `governor-child.ts <JSON of GovernorSpec>` prints one line of JSON.
 *
 * `cost` compares turns with those in a home whose slots cannot be used, one after the other. `waiting` counts how often the threads are
 * woken while a request waits for a slot.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { runOne, addon } from "../support/turn.ts";
import { threadSwitches } from "./measure.ts";
import { median } from "./report.ts";

export type GovernorSpec =
  | { kind: "cost"; home: string; without: string; turns: number }
  | { kind: "waiting"; home: string; seconds: number };

const spec = JSON.parse(process.argv[2] ?? "{}") as GovernorSpec;
const { BENCH_URL: baseUrl = "", BENCH_KEY: apiKey = "" } = process.env;
const native = addon();
const turn = async (home: string, signal?: AbortSignal): Promise<number> => {
  const options = signal === undefined ? {} : { options: { signal } };
  const { took, message } = await runOne(native, { baseUrl, apiKey, env: { HOME: home }, ...options });
  if (message.stopReason === "error") throw new Error(message.errorMessage);
  return took;
};

async function cost(home: string, without: string, turns: number): Promise<object> {
  const [counted, free]: [number[], number[]] = [[], []];
  for (let at = -10; at < turns; at += 1) {
    const [one, other] = [await turn(home), await turn(without)];
    if (at < 0) continue;
    counted.push(one);
    free.push(other);
  }
  return { countedMs: median(counted), freeMs: median(free) };
}

async function waiting(home: string, seconds: number): Promise<object> {
  const stop = new AbortController();
  const turnEnded = turn(home, stop.signal);
  await sleep(1500);
  const before = threadSwitches();
  await sleep(seconds * 1000);
  let woken = 0;
  // Node's own threads wake up whether anything waits or not.
  for (const [task, { name, count }] of threadSwitches()) {
    if (name.startsWith("kimi-code")) woken += count - (before.get(task)?.count ?? 0);
  }
  const perSecond = woken / seconds;
  stop.abort();
  await turnEnded;
  return { perSecond };
}

const result =
  spec.kind === "cost" ? await cost(spec.home, spec.without, spec.turns) : await waiting(spec.home, spec.seconds);
console.log(JSON.stringify(result));
process.exit();
