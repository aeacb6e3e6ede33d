// One view of a request for both dialects: the input of the built-in agent, of the prompt cache (shared between the dialects,
// docs/protocol.md#prompt-cache) and of the thinking default (docs/protocol.md#thinking).

import { createHash } from "node:crypto";
import { asArray, asObject, asString, isObject, objectsIn, type Json, type JsonObject } from "./json.ts";
import type { Dialect } from "./types.ts";

export interface PromptTool {
  name: string;
  definition: string;
}

/** A part of the prompt. Media count by their reference, not by their bytes (docs/protocol.md#prompt-cache). */
export interface Piece {
  text: string;
  media?: { tokens: number };
}

export interface Turn {
  role: "system" | "user" | "assistant" | "tool";
  pieces: Piece[];
  /** Visible text only, without serialization markers. */
  text: string;
}

export interface Prompt {
  dialect: Dialect;
  model: string;
  stream: boolean;
  system: string;
  /** Tools at the start of the prompt; late ones are only in `lateTools` and in their turn. */
  tools: PromptTool[];
  lateTools: PromptTool[];
  turns: Turn[];
  /** What the request asks for; `undefined` leaves it to the default of dialect and model. */
  thinking: boolean | undefined;
  outputCap: number | undefined;
  /** Schema that the answer follows as JSON. */
  answerSchema?: JsonObject | undefined;
}

export function thinkingOn(prompt: Prompt, alwaysThinks: boolean, neverThinks: boolean): boolean {
  if (neverThinks) return false;
  if (prompt.thinking !== undefined) return prompt.thinking || alwaysThinks;
  return prompt.dialect === "openai";
}

/** Text of the user messages after the last answer or tool result: clients append reminders to the prompt. */
export function lastUserText(prompt: Prompt): string {
  const texts: string[] = [];
  for (let i = prompt.turns.length - 1; i >= 0; i--) {
    const turn = prompt.turns[i];
    if (turn === undefined || turn.role !== "user") break;
    texts.unshift(turn.text);
  }
  return texts.join("\n");
}

export function promptFromOpenAI(body: JsonObject): Prompt {
  const turns: Turn[] = [];
  const system: string[] = [];
  const tools = objectsIn(body["tools"]);
  const lateTools: JsonObject[] = [];
  for (const message of objectsIn(body["messages"])) {
    const role = asString(message["role"]);
    const parts = openAIContent(message["content"]);
    if (role === "system" && turns.length === 0) {
      system.push(parts.map((piece) => piece.text).join(""));
      tools.push(...objectsIn(message["tools"]));
    } else if (role === "system") {
      const added = objectsIn(message["tools"]).map((tool) => ({ text: JSON.stringify(tool) }));
      turns.push(turn("system", [...parts, ...added]));
      lateTools.push(...objectsIn(message["tools"]));
    } else if (role === "assistant") {
      const reasoning = asString(message["reasoning_content"]);
      const calls = objectsIn(message["tool_calls"]).map((call) => {
        const fn = asObject(call["function"]) ?? {};
        return callPiece(asString(fn["name"]) ?? "", asString(fn["arguments"]) ?? "");
      });
      turns.push(turn("assistant", [...(reasoning ? [thought(reasoning)] : []), ...parts, ...calls], parts));
    } else if (role === "tool") {
      turns.push(turn("tool", parts));
    } else {
      turns.push(turn("user", parts));
    }
  }
  const cap = body["max_completion_tokens"] ?? body["max_tokens"];
  return {
    dialect: "openai",
    model: asString(body["model"]) ?? "",
    stream: body["stream"] === true,
    system: system.join("\n"),
    tools: tools.map(openAITool),
    lateTools: lateTools.map(openAITool),
    turns,
    thinking: thinkingAsked(body),
    outputCap: typeof cap === "number" ? cap : undefined,
    answerSchema: answerSchema(asObject(body["response_format"])),
  };
}

/** `json_object` promises an object and says nothing about its members. */
function answerSchema(format: JsonObject | undefined): JsonObject | undefined {
  if (format?.["type"] === "json_object") return { type: "object" };
  if (format?.["type"] !== "json_schema") return undefined;
  return asObject(asObject(format["json_schema"])?.["schema"]);
}

export function promptFromAnthropic(body: JsonObject): Prompt {
  const turns: Turn[] = [];
  for (const message of objectsIn(body["messages"])) {
    const blocks =
      typeof message["content"] === "string"
        ? [{ type: "text", text: message["content"] }]
        : objectsIn(message["content"]);
    if (message["role"] === "assistant") {
      const pieces = blocks.map(anthropicPiece);
      turns.push(turn("assistant", pieces, blocks.filter((b) => b["type"] === "text").map(anthropicPiece)));
      continue;
    }
    const results = blocks.filter((block) => block["type"] === "tool_result");
    for (const result of results) {
      const content = result["content"];
      const pieces = typeof content === "string" ? [{ text: content }] : objectsIn(content).map(anthropicPiece);
      turns.push(turn("tool", pieces));
    }
    const rest = blocks.filter((block) => block["type"] !== "tool_result").map(anthropicPiece);
    if (rest.length > 0) turns.push(turn("user", rest));
  }
  const system = body["system"];
  return {
    dialect: "anthropic",
    model: asString(body["model"]) ?? "",
    stream: body["stream"] === true,
    system:
      typeof system === "string"
        ? system
        : objectsIn(system)
            .map((b) => asString(b["text"]) ?? "")
            .join("\n"),
    tools: objectsIn(body["tools"]).map((tool) => {
      const name = asString(tool["name"]) ?? "";
      return { name, definition: toolText(name, tool["description"], tool["input_schema"]) };
    }),
    lateTools: [],
    turns,
    thinking: thinkingAsked(body),
    outputCap: typeof body["max_tokens"] === "number" ? body["max_tokens"] : undefined,
  };
}

function thinkingAsked(body: JsonObject): boolean | undefined {
  const type = asString(asObject(body["thinking"])?.["type"]);
  return type === undefined ? undefined : type !== "disabled";
}

function turn(role: Turn["role"], pieces: Piece[], visible: Piece[] = pieces): Turn {
  return {
    role,
    pieces,
    text: visible
      .filter((piece) => !piece.media)
      .map((piece) => piece.text)
      .join(""),
  };
}

function thought(text: string): Piece {
  return { text: `<think>${text}</think>` };
}

function callPiece(name: string, args: string): Piece {
  return { text: `<call>${name} ${args}</call>` };
}

function openAIContent(content: Json | undefined): Piece[] {
  if (typeof content === "string") return content === "" ? [] : [{ text: content }];
  return asArray(content)
    .filter(isObject)
    .map((part) => {
      const type = asString(part["type"]) ?? "";
      if (type === "text") return { text: asString(part["text"]) ?? "" };
      const value = part[type];
      return media(typeof value === "string" ? value : (asString(asObject(value)?.["url"]) ?? ""));
    });
}

function anthropicPiece(block: JsonObject): Piece {
  switch (block["type"]) {
    case "text":
      return { text: asString(block["text"]) ?? "" };
    case "thinking":
      return thought(asString(block["thinking"]) ?? "");
    case "tool_use":
      return callPiece(asString(block["name"]) ?? "", JSON.stringify(block["input"] ?? {}));
    case "image":
    case "video": {
      const source = asObject(block["source"]) ?? {};
      const url = asString(source["url"]);
      return media(url ?? `data:${asString(source["media_type"])};base64,${asString(source["data"]) ?? ""}`);
    }
    default:
      return { text: "" };
  }
}

/** The cheapest image measured costs 57 tokens; inline ones grow with their size, for want of better evidence. */
function media(url: string): Piece {
  const digest = createHash("sha256").update(url).digest("hex").slice(0, 16);
  return { text: `<media ${digest}>`, media: { tokens: Math.max(57, Math.ceil(url.length / 1400)) } };
}

function openAITool(tool: JsonObject): PromptTool {
  const fn = asObject(tool["function"]) ?? {};
  const name = asString(fn["name"]) ?? "";
  return { name, definition: toolText(name, fn["description"], fn["parameters"]) };
}

function toolText(name: string, description: Json | undefined, schema: Json | undefined): string {
  return `${name}\n${asString(description) ?? ""}\n${JSON.stringify(schema ?? {})}`;
}
