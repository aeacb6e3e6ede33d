/**
 * Measures one more turn of a long session beside `JSON.stringify` of the same context: `setup-child.ts <MB> <rounds>` prints one line of
 * JSON. CPU times are means over all rounds, because some systems count them in steps of milliseconds.
 */
import { history } from "./history.ts";
import { subject } from "./subjects.ts";

/** Milliseconds. */
export interface SetupCost {
  /** `JSON.stringify` of the context, and what the main thread does until the request is handed over: the best round's time. */
  stringify: number;
  handover: number;
  /** CPU time of `JSON.stringify`; of the whole turn with its short answer, on the main thread and on all. */
  stringifyCpu: number;
  mainCpu: number;
  cpu: number;
}

const [megabytes, rounds] = [Number(process.argv[2]), Number(process.argv[3])];
const { BENCH_URL: baseUrl = "", BENCH_KEY: apiKey = "" } = process.env;
const context = history(megabytes * 1e6, "kimi-code-native");
const run = await subject("ours", { baseUrl, apiKey, context });

const sum = ({ user, system }: NodeJS.CpuUsage): number => (user + system) / 1000;
const thread = (): number => sum(process.threadCpuUsage());
const everything = (): number => sum(process.cpuUsage());

// Compiled code and the first connection.
for (let round = 0; round < 5; round += 1) {
  JSON.stringify(context);
  await run();
}
let [stringify, handover] = [Infinity, Infinity];
let [stringifyCpu, mainCpu, cpu] = [0, 0, 0];
for (let round = 0; round < rounds; round += 1) {
  // A new copy for each turn, as Pi makes one.
  const copy = structuredClone(context);
  const [before, at] = [thread(), performance.now()];
  JSON.stringify(copy);
  stringify = Math.min(stringify, performance.now() - at);
  const [main, all, start] = [thread(), everything(), performance.now()];
  const running = run();
  handover = Math.min(handover, performance.now() - start);
  await running;
  stringifyCpu += (main - before) / rounds;
  mainCpu += (thread() - main) / rounds;
  cpu += (everything() - all) / rounds;
}
console.log(JSON.stringify({ stringify, handover, stringifyCpu, mainCpu, cpu } satisfies SetupCost));
process.exit();
