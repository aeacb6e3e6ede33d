/**
 * Measures the time from the service writing the end of an answer to a consumer reading it, while streams flow side by side and share
 * the tick: `end-child.ts <rounds> <streams>` prints one line of JSON.
 */
import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { createAssistantMessageEventStream } from "@earendil-works/pi-ai";
import { host } from "../../extension/environment.ts";
import { runTurn } from "../../extension/turn/turn.ts";
import { addon, model } from "../support/turn.ts";

const [rounds, streams] = [Number(process.argv[2]), Number(process.argv[3])];
const DELTA = 'data: {"id":"c","choices":[{"index":0,"delta":{"content":"word "}}]}\n\n';
const LAST = 'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n';

/** When the end of an answer was written, by its last text. */
const written = new Map<string, number>();
let answers = 0;
const server = createServer(async (request, response) => {
  request.resume();
  response.writeHead(200, { "content-type": "text/event-stream" });
  // 100 deltas a second for 300 to 600 ms, so that ends fall anywhere between two ticks.
  const end = performance.now() + 300 + Math.random() * 300;
  while (performance.now() < end) {
    response.write(DELTA);
    await sleep(10);
  }
  const name = `answer-${(answers += 1)}`;
  written.set(name, performance.now());
  response.end(DELTA.replace("word ", name) + LAST);
});
await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
const native = addon();
const entry = model(native, `http://127.0.0.1:${(server.address() as { port: number }).port}`);

async function one(): Promise<number> {
  const events = createAssistantMessageEventStream();
  const context = { messages: [{ role: "user", content: "hi", timestamp: 1 }] } as never;
  runTurn(native, host("0.87.1"), events, entry, context, {
    apiKey: "sk-kimi-bench",
    env: { KIMI_CODE_MODEL_LIST: "off" },
  });
  for await (const event of events) {
    if (event.type === "error") throw new Error(event.error.errorMessage);
    if (event.type !== "done") continue;
    const [, name = ""] = /(answer-\d+)$/.exec(JSON.stringify(event.message.content).replace(/"\}\]$/, "")) ?? [];
    return performance.now() - (written.get(name) ?? Number.NaN);
  }
  throw new Error("an answer without an end");
}

await one();
const seen: number[] = [];
const worker = async (): Promise<void> => {
  for (let round = 0; round < rounds / streams; round += 1) seen.push(await one());
};
await Promise.all(Array.from({ length: streams }, worker));
const sorted = seen.toSorted((a, b) => a - b);
const at = (share: number): number => sorted[Math.floor(sorted.length * share)] ?? Number.NaN;
console.log(JSON.stringify({ medianMs: at(0.5), p95Ms: at(0.95) }));
process.exit();
