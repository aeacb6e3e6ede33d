/** The stream implementations that are compared. Each returns the number of events its consumer saw. */
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import {
  createAssistantMessageEventStream,
  type AssistantMessageEventStream,
  type Model,
  type SimpleStreamOptions,
  type StreamFunction,
} from "@earendil-works/pi-ai";
import { createParser } from "eventsource-parser";
import { host } from "../../extension/environment.ts";
import { runTurn } from "../../extension/turn/turn.ts";
import { piInstallation } from "../support/pi-versions.ts";
import { addon, model } from "../support/turn.ts";
import { isPiSubject, PI_SUBJECTS, type PiSubject, type Subject } from "./cases.ts";

export type Run = () => Promise<number>;

/** The request and its target. */
export interface Question {
  baseUrl: string;
  apiKey: string;
  /** Pi's context; "hi" if missing. The lower bound and the SDKs always ask "hi". */
  context?: object;
  /** Adds an extension that inspects the body. */
  payloadHook?: boolean;
}

const HI = { messages: [{ role: "user", content: "hi", timestamp: 1 }] };
export const USER_AGENT = "pi/0.87.1 (linux; node)";

/** Copies the message on every event, as Pi's agent loop does. */
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

async function floor({ baseUrl, apiKey }: Question): Promise<number> {
  const response = await fetch(`${baseUrl}/v1/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${apiKey}`, "content-type": "application/json", "user-agent": USER_AGENT },
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

async function openaiSdk({ baseUrl, apiKey }: Question): Promise<Run> {
  const { default: OpenAI } = await import("openai");
  const defaultHeaders = { "user-agent": USER_AGENT };
  const client = new OpenAI({ baseURL: `${baseUrl}/v1`, apiKey, maxRetries: 0, defaultHeaders });
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

async function anthropicSdk({ baseUrl, apiKey }: Question): Promise<Run> {
  const { default: Anthropic } = await import("@anthropic-ai/sdk");
  const client = new Anthropic({
    baseURL: baseUrl,
    apiKey: null,
    authToken: apiKey,
    maxRetries: 0,
    defaultHeaders: { "user-agent": USER_AGENT },
  });
  return async () => {
    const stream = await client.messages.create({
      model: "kimi-for-coding",
      max_tokens: 32_000,
      stream: true,
      messages: [{ role: "user", content: "hi" }],
    });
    let seen = 0;
    for await (const event of stream) if (event.type) seen += 1;
    return seen;
  };
}

/** What this package imports of a version of Pi, by path: other versions than the installed one are not dependencies of ours. */
async function piModule<T>(version: string, path: string): Promise<T> {
  const file = join(piInstallation(version), "node_modules", "@earendil-works", "pi-ai", "dist", `${path}.js`);
  return (await import(pathToFileURL(file).href)) as T;
}

/** One of Pi's own implementations, with the entry of its built-in Kimi provider. */
async function builtIn(subject: PiSubject, question: Question): Promise<Run> {
  const { version, api } = PI_SUBJECTS[subject];
  const { baseUrl, apiKey, payloadHook } = question;
  const { kimiCodingProvider } = await piModule<typeof import("@earendil-works/pi-ai/providers/kimi-coding")>(
    version,
    "providers/kimi-coding",
  );
  const entry = kimiCodingProvider()
    .getModels()
    .find(({ id }) => id === "kimi-for-coding");
  const compat = {
    supportsStore: false,
    supportsDeveloperRole: false,
    supportsReasoningEffort: false,
    maxTokensField: "max_tokens",
  };
  const address = api === "anthropic-messages" ? { baseUrl } : { baseUrl: `${baseUrl}/v1`, compat };
  const context = (question.context ?? HI) as never;
  const hook = payloadHook ? { onPayload: (): undefined => undefined } : {};
  const options = { apiKey, headers: { "user-agent": USER_AGENT }, reasoning: "high", ...hook } as const;
  const { streamSimple } = await piModule<{ streamSimple: StreamFunction<string, SimpleStreamOptions> }>(
    version,
    `api/${api}`,
  );
  return () => consume(streamSimple({ ...entry, api, ...address } as Model<string>, context, options));
}

function ours({ baseUrl, apiKey, context = HI, payloadHook }: Question, protocol: string): Run {
  const native = addon();
  const entry = model(native, baseUrl);
  const hook = payloadHook ? { onPayload: (): undefined => undefined } : {};
  const options = { apiKey, env: { KIMI_CODE_PROTOCOL: protocol }, reasoning: "high", ...hook } as const;
  return () => {
    const events = createAssistantMessageEventStream();
    runTurn(native, host("0.87.1"), events, entry, context as never, options);
    return consume(events);
  };
}

async function aiSdk(name: "ai-sdk-openai-compatible" | "ai-sdk-ours", { baseUrl, apiKey }: Question): Promise<Run> {
  const { streamText } = await import("ai");
  const headers = { "User-Agent": USER_AGENT };
  const chosen = async (): Promise<Parameters<typeof streamText>[0]["model"]> => {
    if (name === "ai-sdk-ours") {
      const { createKimi } = await import("../../extension/ai-sdk.ts");
      return createKimi({ baseUrl, apiKey, headers })("kimi-for-coding");
    }
    const { createOpenAICompatible } = await import("@ai-sdk/openai-compatible");
    return createOpenAICompatible({ name: "kimi", baseURL: `${baseUrl}/v1`, apiKey, headers })("kimi-for-coding");
  };
  const languageModel = await chosen();
  return async () => {
    let seen = 0;
    for await (const part of streamText({ model: languageModel, prompt: "hi", maxRetries: 0 }).fullStream) {
      if (part.type === "error") throw part.error;
      seen += 1;
    }
    return seen;
  };
}

/** Loads a subject before the measurement starts. */
export async function subject(name: Subject, question: Question): Promise<Run> {
  if (isPiSubject(name)) return builtIn(name, question);
  switch (name) {
    case "floor":
      return () => floor(question);
    case "openai-sdk":
      return openaiSdk(question);
    case "anthropic-sdk":
      return anthropicSdk(question);
    case "ai-sdk-openai-compatible":
    case "ai-sdk-ours":
      return aiSdk(name, question);
    case "ours":
      return Promise.resolve(ours(question, "openai"));
    case "ours-anthropic":
      return Promise.resolve(ours(question, "anthropic"));
  }
}
