/** A Node program that reads an answer without end and prints how it ended and how much its memory grew, in megabytes. */
import { setTimeout as sleep } from "node:timers/promises";
import { Kimi, KimiError } from "../../index.ts";

const kimi = new Kimi();
await kimi.chat("warm up").text();
globalThis.gc?.();
await sleep(500);
const idle = process.memoryUsage().rss;
let peak = idle;
const sampler = setInterval(() => (peak = Math.max(peak, process.memoryUsage().rss)), 20);
let outcome = "answer";
try {
  for await (const event of kimi.chat("hi", { maxRetries: 0 })) void event;
} catch (error) {
  outcome = error instanceof KimiError ? error.code : String(error);
}
clearInterval(sampler);
// Between two samples, as the kernel knows it.
peak = Math.max(peak, process.resourceUsage().maxRSS * 1024);
process.stdout.write(JSON.stringify({ outcome, megabytes: (peak - idle) / 2 ** 20 }));
