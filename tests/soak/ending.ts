/** A process that ends during an answer in the given way: `ending.ts exit 20`. */
import { Kimi } from "../../index.ts";

const [way = "", delay = "0"] = process.argv.slice(2);
const kimi = new Kimi();

function end(): void {
  if (way === "exit") process.exit(7);
  if (way === "throw") throw new Error("on purpose");
  if (way === "SIGTERM" || way === "SIGINT") process.kill(process.pid, way);
}

setTimeout(end, Number(delay));
const answers = await Promise.allSettled(["one", "two", "three"].map((question) => kimi.chat(question).text()));
// Only `return` gets here: the process must end by itself, because nothing of ours keeps it alive.
process.stdout.write(answers.map(({ status }) => status).join(" "));
