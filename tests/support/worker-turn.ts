/** A program whose worker thread alone loads the addon: a line on stdin terminates the worker, the end of stdin the program. */
import { Worker } from "node:worker_threads";

const worker = new Worker(new URL("./node-turn.ts", import.meta.url));
process.stdin.setEncoding("utf8");
process.stdin.on("data", (line: string) => {
  if (line.includes("exit")) process.exit(0);
  void worker.terminate().then(() => process.stdout.write("terminated\n"));
});
