/** The ways to read a stream that are compared. Each returns how many events its consumer saw. */
import { createAssistantMessageEventStream, type AssistantMessageEventStream, type Model } from "@earendil-works/pi-ai";
import { createParser } from "eventsource-parser";
import { host } from "../../extension/environment.ts";
import { runTurn } from "../../extension/stream.ts";
import { addon, model } from "../support/turn.ts";
import type { Subject } from "./cases.ts";

export type Run = () => Promise<number>;

const MESSAGES = [{ role: "user", content: "hi", timestamp: 1 }];

/** Copies the message per event, as Pi's agent loop does. */
async function consume(events: AssistantMessageEventStream): Promise<number> {
  let seen = 0;
  let copy: object | undefined;
  for await (const event of events) {
    if (event.type === "error") throw new Error(event.error.errorMessage);
    copy = "partial" in event ? { ...event.partial } : event;
    seen += 1;
  }
  return copy === undefined ? 0 : seen;
}

async function floor(baseUrl: string, apiKey: string): Promise<number> {
  const response = await fetch(`${baseUrl}/v1/chat/completions`, {
    method: "POST",
    headers: {
      authorization: `Bearer ${apiKey}`,
      "content-type": "application/json",
      "user-agent": "pi/0.87.1 (linux; node)",
    },
    body: JSON.stringify({ model: "kimi-for-coding", stream: true, messages: [{ role: "user", content: "hi" }] }),
  });
  if (!response.ok || !response.body) throw new Error(`floor: ${response.status} ${await response.text()}`);
  let seen = 0;
  const parser = createParser({
    onEvent: ({ data }) => {
      if (data !== "[DONE]" && typeof JSON.parse(data) === "object") seen += 1;
    },
  });
  const decoder = new TextDecoder();
  for await (const chunk of response.body) parser.feed(decoder.decode(chunk as Uint8Array, { stream: true }));
  return seen;
}

async function sdk(baseUrl: string, apiKey: string): Promise<Run> {
  const { default: OpenAI } = await import("openai");
  const client = new OpenAI({
    baseURL: `${baseUrl}/v1`,
    apiKey,
    maxRetries: 0,
    defaultHeaders: { "user-agent": "pi/0.87.1 (linux; node)" },
  });
  return async () => {
    const stream = await client.chat.completions.create({
      model: "kimi-for-coding",
      stream: true,
      messages: [{ role: "user", content: "hi" }],
    });
    let seen = 0;
    for await (const chunk of stream) if (chunk.object) seen += 1;
    return seen;
  };
}

/** Pi's own implementations with the entries of its built-in Kimi provider. */
async function builtIn(subject: "pi-openai" | "pi-anthropic", baseUrl: string, apiKey: string): Promise<Run> {
  const { kimiCodingProvider } = await import("@earendil-works/pi-ai/providers/kimi-coding");
  const entry = kimiCodingProvider()
    .getModels()
    .find(({ id }) => id === "kimi-for-coding") as Model<string>;
  const context = { messages: MESSAGES } as never;
  const options = { apiKey, headers: { "user-agent": "pi/0.87.1 (linux; node)" }, reasoning: "high" } as const;
  if (subject === "pi-anthropic") {
    const { streamSimple } = await import("@earendil-works/pi-ai/api/anthropic-messages");
    return () => consume(streamSimple({ ...entry, baseUrl } as Model<"anthropic-messages">, context, options));
  }
  const { streamSimple } = await import("@earendil-works/pi-ai/api/openai-completions");
  const compat = {
    supportsStore: false,
    supportsDeveloperRole: false,
    supportsReasoningEffort: false,
    maxTokensField: "max_tokens",
  };
  const openai = { ...entry, api: "openai-completions", baseUrl: `${baseUrl}/v1`, compat };
  return () => consume(streamSimple(openai as Model<"openai-completions">, context, options));
}

function ours(baseUrl: string, apiKey: string, protocol: string): Run {
  const native = addon();
  const entry = model(native, baseUrl);
  const env = { KIMI_CODE_PROTOCOL: protocol };
  return () => {
    const events = createAssistantMessageEventStream();
    runTurn(native, host("0.87.1"), events, entry, { messages: MESSAGES } as never, { apiKey, env, reasoning: "high" });
    return consume(events);
  };
}

/** Loads a subject; what it loads is not measured. */
export async function subject(name: Subject, baseUrl: string, apiKey: string): Promise<Run> {
  switch (name) {
    case "floor":
      return () => floor(baseUrl, apiKey);
    case "openai-sdk":
      return sdk(baseUrl, apiKey);
    case "pi-openai":
    case "pi-anthropic":
      return builtIn(name, baseUrl, apiKey);
    case "ours":
      return Promise.resolve(ours(baseUrl, apiKey, "openai"));
    case "ours-anthropic":
      return Promise.resolve(ours(baseUrl, apiKey, "anthropic"));
  }
}
