/**
 * Measures what streams keep while they are open: `open-streams-child.ts <JSON of OpenStreamsSpec>` prints one line of JSON. Every stream
 * has shown its first words and then waits for more. Run with --expose-gc.
 */
import { createAssistantMessageEventStream } from "@earendil-works/pi-ai";
import { setTimeout as sleep } from "node:timers/promises";
import { Kimi } from "../../extension/client/index.ts";
import { host } from "../../extension/environment.ts";
import { runTurn } from "../../extension/turn/turn.ts";
import { addon, model } from "../support/turn.ts";

export interface OpenStreamsSpec {
  subject: "client" | "pi" | "floor";
  protocol: "openai" | "anthropic";
  streams: number;
  /** Characters of the question. */
  prompt: number;
}

export interface OpenStreams {
  kibPerStream: number;
  /** The part of it in the heaps of JavaScript. */
  heapKibPerStream: number;
}

const { subject, protocol, streams, prompt } = JSON.parse(process.argv[2] ?? "{}") as OpenStreamsSpec;
const { BENCH_URL: baseUrl = "", BENCH_KEY: apiKey = "" } = process.env;
const env = { KIMI_CODE_PROTOCOL: protocol };
const question = "Why? ".repeat(prompt / 5);

/** Keeps everything that is open. */
const open: unknown[] = [];

/** Starts a stream and returns when its first text has arrived. */
function starter(): () => Promise<void> {
  if (subject === "client") {
    const kimi = new Kimi({ baseUrl, apiKey, env, headers: { "User-Agent": "pi/0.87.1" } });
    return () =>
      new Promise((shown, reject) => {
        const chat = kimi.chat(question);
        open.push(chat);
        (async () => {
          for await (const event of chat) if (event.type === "text_delta") shown();
        })().catch(reject);
      });
  }
  if (subject === "pi") {
    const native = addon();
    const entry = model(native, baseUrl);
    return () =>
      new Promise((shown, reject) => {
        const events = createAssistantMessageEventStream();
        const context = { messages: [{ role: "user", content: question, timestamp: 1 }] };
        runTurn(native, host("0.87.1"), events, entry, context as never, { apiKey, env });
        open.push(events);
        (async () => {
          for await (const event of events) if (event.type === "text_delta") shown();
        })().catch(reject);
      });
  }
  return () =>
    new Promise((shown, reject) => {
      (async () => {
        const response = await fetch(`${baseUrl}/v1/chat/completions`, {
          method: "POST",
          headers: { authorization: `Bearer ${apiKey}`, "content-type": "application/json", "user-agent": "pi/0.87.1" },
          body: JSON.stringify({
            model: "kimi-for-coding",
            stream: true,
            messages: [{ role: "user", content: question }],
          }),
        });
        open.push(response);
        for await (const chunk of response.body ?? []) if (Buffer.from(chunk).includes("content")) shown();
      })().catch(reject);
    });
}

function reading(): { rss: number; heap: number } {
  globalThis.gc?.();
  globalThis.gc?.();
  const { rss, heapUsed, external } = process.memoryUsage();
  return { rss, heap: heapUsed + external };
}

const start = starter();
// Lazy loading, pools of threads and compiled code do not belong to a stream.
await Promise.all(Array.from({ length: 8 }, start));
await sleep(300);
const before = reading();
await Promise.all(Array.from({ length: streams }, start));
await sleep(1000);
const after = reading();
const perStream = (bytes: number): number => bytes / streams / 1024;
const result: OpenStreams = {
  kibPerStream: perStream(after.rss - before.rss),
  heapKibPerStream: perStream(after.heap - before.heap),
};
console.log(JSON.stringify(result));
process.exit();
