/** A worker thread that runs a turn and ends in the given way. */
import { parentPort, workerData } from "node:worker_threads";
import { Kimi } from "../../index.ts";

const way = workerData as "answer" | "exit" | "throw" | "terminate";
const kimi = new Kimi();
let events = 0;
for await (const event of kimi.chat("hi")) {
  events += 1;
  if (event.type !== "text_delta") continue;
  parentPort?.postMessage("streaming");
  if (way === "exit") process.exit(7);
  if (way === "throw") throw new Error("on purpose");
}
if (events === 0) process.exit(3);
