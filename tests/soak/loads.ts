/** The loads. Each leaves the process as it found it and returns its observations. */
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { type ChatMessage, Kimi, KimiAbortError } from "../../index.ts";
import { type Delay, Growth, settled, type Vitals, watchLoop } from "./vitals.ts";

export interface Report {
  before: Vitals;
  after: Vitals;
  turns: number;
  /** Answers that differ from the expected ones. */
  wrong: string[];
  /** RSS in megabytes, from the second quarter of the run to the last. */
  growth: number;
  delay: Delay;
  seconds: number;
}

const TOOLS = [
  { name: "look", description: "Looks.", parameters: { type: "object", properties: { at: { type: "string" } } } },
];

/** Builds a conversation of about `kilobytes`, as an agent has it after a while. */
function history(kilobytes: number): ChatMessage[] {
  const words = "The quick brown fox jumps over the lazy dog. ".repeat(22);
  const rounds = Array.from({ length: kilobytes }, (_, round): ChatMessage =>
    round % 2 === 0
      ? { role: "user", content: words }
      : { role: "assistant", content: [{ type: "text", text: words }] },
  );
  return [...rounds, { role: "user", content: "Go on." }];
}

async function measured(turns: (growth: Growth, wrong: string[]) => Promise<number>): Promise<Report> {
  await new Kimi().chat("warm up").text();
  const before = await settled();
  const growth = new Growth();
  const wrong: string[] = [];
  const delay = watchLoop();
  const start = performance.now();
  const count = await turns(growth, wrong);
  const seconds = (performance.now() - start) / 1000;
  return { before, after: await settled(1500), turns: count, wrong, growth: growth.megabytes, delay: delay(), seconds };
}

/** Keeps `streams` concurrent answers running for `seconds`; each is a turn with 40 KB of history. */
export function streams(streams: number, seconds: number): Promise<Report> {
  return measured(async (growth, wrong) => {
    const messages = history(40);
    const end = performance.now() + seconds * 1000;
    let turns = 0;
    const stream = async (number: number): Promise<void> => {
      const kimi = new Kimi({ env: { KIMI_CODE_PROTOCOL: number % 2 === 0 ? "openai" : "anthropic" } });
      // Sessions start at different moments.
      await sleep(number * 20);
      while (performance.now() < end) {
        let length = 0;
        try {
          for await (const event of kimi.chat({ messages, tools: TOOLS })) {
            if (event.type === "text_delta") length += event.delta.length;
            if (event.type === "done" && length !== textLength(event.message.content)) wrong.push(`${length} shown`);
          }
        } catch (error) {
          wrong.push(String(error));
        }
        turns += 1;
      }
    };
    const sampler = setInterval(() => growth.sample(), Math.max(250, (seconds * 1000) / 200));
    await Promise.all(Array.from({ length: streams }, (_, number) => stream(number)));
    clearInterval(sampler);
    return turns;
  });
}

function textLength(content: { type: string }[]): number {
  return content.reduce((sum, part) => sum + ("text" in part ? String(part.text).length : 0), 0);
}

/** Runs `count` short turns, eight at a time, in both dialects. */
export function turns(count: number): Promise<Report> {
  return measured(async (growth, wrong) => {
    const messages = history(4);
    const clients = ["openai", "anthropic"].map((dialect) => new Kimi({ env: { KIMI_CODE_PROTOCOL: dialect } }));
    let started = 0;
    const session = async (): Promise<void> => {
      while (started < count) {
        started += 1;
        const number = started;
        if (number % Math.ceil(count / 100) === 0) growth.sample();
        try {
          const text = await (clients[number % 2] as Kimi).chat({ messages, tools: TOOLS }).text();
          if (text.length === 0) wrong.push("no text");
        } catch (error) {
          wrong.push(String(error));
        }
      }
    };
    await Promise.all(Array.from({ length: 8 }, session));
    return count;
  });
}

/** Runs `count` turns that are aborted within their first `within` milliseconds, 32 at a time. */
export function aborts(count: number, within = 60): Promise<Report> {
  return measured(async (growth, wrong) => {
    const kimi = new Kimi();
    const messages = history(8);
    let started = 0;
    const session = async (): Promise<void> => {
      while (started < count) {
        started += 1;
        if (started % Math.ceil(count / 40) === 0) growth.sample();
        const controller = new AbortController();
        const chat = kimi.chat({ messages, signal: controller.signal });
        setTimeout(() => controller.abort(), Math.random() * within);
        await chat.final().then(
          () => wrong.push("an answer although it was aborted"),
          (error: unknown) => error instanceof KimiAbortError || wrong.push(String(error)),
        );
      }
    };
    await Promise.all(Array.from({ length: 32 }, session));
    return count;
  });
}

/** Runs `count` worker threads, four at a time, that end in every way a thread can end. */
export function workers(count: number): Promise<Report> {
  return measured(async (growth, wrong) => {
    const ways = ["answer", "exit", "throw", "terminate"] as const;
    let started = 0;
    const session = async (): Promise<void> => {
      while (started < count) {
        const way = ways[started % ways.length];
        started += 1;
        growth.sample();
        const worker = new Worker(join(import.meta.dirname, "worker.ts"), { workerData: way, stderr: true });
        worker.on("error", (error) => way === "throw" || wrong.push(`${way}: ${String(error)}`));
        worker.once("message", () => way === "terminate" && void worker.terminate());
        const code = await new Promise<number>((ended) => worker.once("exit", ended));
        const expected = { answer: 0, exit: 7, throw: 1, terminate: 1 }[way ?? "answer"];
        if (code !== expected) wrong.push(`${way} ended with ${code}`);
      }
    };
    await Promise.all(Array.from({ length: 4 }, session));
    // The main thread's own turns work as before.
    await new Kimi().chat("still there?").text();
    return count;
  });
}
