/**
 * Measures one more turn of a long session beside `JSON.stringify` of the same context: `setup-child.ts <MB> <rounds>` prints one line of
 * JSON. CPU times are means over all rounds, because some systems count them in steps of milliseconds.
 */
import { Agent, request } from "node:http";
import { history } from "./history.ts";
import { subject, USER_AGENT } from "./subjects.ts";

/** Milliseconds. */
export interface SetupCost {
  /** `JSON.stringify` of the context, and what the main thread does until the request is handed over: the best round's time. */
  stringify: number;
  handover: number;
  /** CPU time of `JSON.stringify`; of the whole turn with its short answer, on the main thread and on all. */
  stringifyCpu: number;
  mainCpu: number;
  cpu: number;
  /** CPU time of a turn over one message as long as the context's JSON, and of one over a word. */
  messageCpu: number;
  wordCpu: number;
  /** CPU time of `fetch`, and of `node:http`, for a finished body as long as that. */
  fetchCpu: number;
  httpCpu: number;
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
  // Pi makes a new copy for each turn, so both get one.
  const copy = Object.assign(context, structuredClone(context));
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

/** CPU time of one run. */
async function cpuOf(work: () => Promise<unknown>): Promise<number> {
  for (let round = 0; round < 5; round += 1) await work();
  const start = everything();
  for (let round = 0; round < rounds; round += 1) await work();
  return (everything() - start) / rounds;
}

const message = { role: "user", content: "x".repeat(JSON.stringify(context).length) };
const body = Buffer.from(JSON.stringify({ model: "kimi-for-coding", stream: true, messages: [message] }));
const url = `${baseUrl}/v1/chat/completions`;
const headers = { authorization: `Bearer ${apiKey}`, "content-type": "application/json", "user-agent": USER_AGENT };
const agent = new Agent({ keepAlive: true });

async function viaFetch(): Promise<void> {
  const response = await fetch(url, { method: "POST", headers, body });
  if (!response.ok) throw new Error(`fetch: ${response.status}`);
  await response.arrayBuffer();
}

function viaHttp(): Promise<void> {
  return new Promise((resolve, reject) => {
    const sent = request(url, { method: "POST", agent, headers: { ...headers, "content-length": body.length } });
    sent.on("response", (response) => {
      if (response.statusCode !== 200) reject(new Error(`http: ${response.statusCode}`));
      response.on("end", resolve).resume();
    });
    sent.on("error", reject).end(body);
  });
}

const messageCpu = await cpuOf(await subject("ours", { baseUrl, apiKey, context: { messages: [message] } }));
const wordCpu = await cpuOf(await subject("ours", { baseUrl, apiKey }));
const [fetchCpu, httpCpu] = [await cpuOf(viaFetch), await cpuOf(viaHttp)];
const costs = { stringify, handover, stringifyCpu, mainCpu, cpu, messageCpu, wordCpu, fetchCpu, httpCpu };
console.log(JSON.stringify(costs satisfies SetupCost));
process.exit();
