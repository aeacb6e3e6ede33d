/**
 * A program that asks Kimi many times at once, for tests of the governor: `load.ts <JSON of LoadTask>`. Each line that it prints is the JSON
 * of a `LoadEvent`.
 */
import { Kimi, type Priority } from "../../index.ts";

export interface LoadTask {
  /** Chats at the same time. */
  streams: number;
  /** Chats of each stream, one after another. */
  rounds: number;
  prompt?: string;
  priority?: Priority;
  /** Setting `concurrency.max`. */
  max?: number;
  apiKey?: string;
}

/** A chat waits for a slot, is repeated, begins, is answered, or fails. */
export type LoadEvent =
  | { type: "slot"; ahead: number | null }
  | { type: "retry"; code: string }
  | { type: "start" }
  | { type: "done" }
  | { type: "failed"; message: string };

const task = JSON.parse(process.argv[2] ?? "{}") as LoadTask;
const tell = (event: LoadEvent): void => void process.stdout.write(`${JSON.stringify(event)}\n`);
const kimi = new Kimi({
  ...(task.apiKey === undefined ? {} : { apiKey: task.apiKey }),
  ...(task.max === undefined ? {} : { settings: { concurrency: { max: task.max } } }),
});

async function stream(): Promise<void> {
  for (let round = 0; round < task.rounds; round += 1) {
    const chat = kimi.chat(task.prompt ?? "go", task.priority === undefined ? {} : { priority: task.priority });
    try {
      for await (const event of chat) {
        if (event.type === "slot") tell({ type: "slot", ahead: event.ahead });
        if (event.type === "retry") tell({ type: "retry", code: event.code });
        if (event.type === "start") tell({ type: "start" });
      }
      tell({ type: "done" });
    } catch (error) {
      tell({ type: "failed", message: error instanceof Error ? error.message : String(error) });
    }
  }
}

await Promise.all(Array.from({ length: task.streams }, stream));
