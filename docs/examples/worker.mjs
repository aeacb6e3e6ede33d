// Worker threads: each has its own client, all share one connection pool.
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { Kimi } from "pi-provider-kimi-code";

if (isMainThread) {
  const questions = ["one", "two", "three"];
  const answers = questions.map(
    (question) =>
      new Promise((resolve, reject) => {
        const worker = new Worker(new URL(import.meta.url), { workerData: question });
        worker.once("message", resolve).once("error", reject);
      }),
  );
  console.log((await Promise.all(answers)).join("\n"));
} else {
  parentPort.postMessage(await new Kimi().chat(workerData).text());
}
