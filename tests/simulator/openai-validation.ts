// Bodies of `/v1/chat/completions` that the service refuses with 400 (docs/protocol.md#chat-body, docs/protocol.md#messages,
// docs/protocol.md#tools). Checks run from cheap and global to specific; the first refusal is the answer.

import type { ResolvedModel } from "./catalog.ts";
import { checkOpenAIContent, emptyMessage, emptyText } from "./content-validation.ts";
import { invalidRequest } from "./errors.ts";
import { asObject, asString, isObject, objectsIn, type Json, type JsonObject } from "./json.ts";
import { checkCount, checkSampling, checkThinking, checkToolChoice } from "./parameter-validation.ts";
import { checkOpenAITools } from "./tools-validation.ts";
import type { Settings } from "./types.ts";

export function checkOpenAIRequest(body: JsonObject, model: ResolvedModel, settings: Settings): void {
  if (typeof body["model"] !== "string" || body["model"] === "") {
    throw invalidRequest("Invalid request: model is required");
  }
  const messages = messagesOf(body["messages"]);
  checkReasoningEffort(body["reasoning_effort"]);
  checkSampling(body, model);
  checkCount(body, "max_completion_tokens");
  checkCount(body, "max_tokens");
  const thinking = asObject(body["thinking"]);
  checkThinking(body["thinking"], thinking?.["effort"], ["enabled", "disabled"], model);
  const thinks = model.thinking !== "no" && thinking?.["type"] !== "disabled";
  checkToolChoice(body["tool_choice"], thinks);

  checkOpenAITools(body["tools"], settings);
  for (const [position, message] of messages.entries()) checkMessage(message, position, model, settings);
  checkToolExchange(messages);
  if (thinks) checkReasoning(messages, thinking?.["keep"] === "all");
}

function messagesOf(value: Json | undefined): JsonObject[] {
  if (value !== undefined && !Array.isArray(value)) throw invalidRequest("Invalid request: messages must be an array");
  if (value === undefined || value.length === 0) throw invalidRequest("Invalid request: messages must not be empty");
  if (!value.every(isObject)) throw invalidRequest("Invalid request: a message must be an object");
  return value as JsonObject[];
}

function checkReasoningEffort(value: Json | undefined): void {
  if (value === undefined || typeof value === "string") return;
  const kind = value === null ? "null" : typeof value;
  throw invalidRequest(
    "Invalid request: the `reasoning_effort` field in the request (expected type string) is illegal, " +
      `and ${kind} is not acceptable`,
  );
}

function checkMessage(message: JsonObject, position: number, model: ResolvedModel, settings: Settings): void {
  const role = asString(message["role"]) ?? "";
  switch (role) {
    case "system": {
      const filled = checkOpenAIContent(message["content"], model);
      // Late tools come in a system message of their own (docs/protocol.md#late-tools). One that repeats a name is ignored rather
      // than refused.
      if (message["tools"] !== undefined) checkOpenAITools(message["tools"], settings);
      else if (!filled) throw emptyMessage(position, role);
      return;
    }
    case "user":
      if (!checkOpenAIContent(message["content"], model)) throw emptyMessage(position, role);
      return;
    case "tool":
      if (message["content"] === undefined) throw invalidRequest("Invalid request Error");
      checkOpenAIContent(message["content"], model);
      return;
    case "assistant":
      return checkAssistant(message, position, model);
    default:
      throw invalidRequest(
        `Invalid request: the message at position ${position} has an unsupported role: ROLE_UNSPECIFIED`,
      );
  }
}

function checkAssistant(message: JsonObject, position: number, model: ResolvedModel): void {
  const { content } = message;
  const calls = objectsIn(message["tool_calls"]);
  for (const call of calls) {
    const fn = asObject(call["function"]);
    if (fn === undefined || !asString(fn["name"])) throw invalidRequest("Invalid request: tool call without a name");
    if (typeof fn["arguments"] !== "string") {
      throw invalidRequest("Invalid request: function.arguments must be a string");
    }
  }
  for (const detail of objectsIn(message["reasoning_details"])) {
    if (detail["index"] !== undefined) throw invalidRequest("Invalid request: reasoning_details.index is not allowed");
  }
  if (calls.length > 0) {
    // `null` is tolerated, explicitly empty content of any form is not (docs/protocol.md#empty-content).
    const blank = typeof content === "string" ? content.trim() === "" : Array.isArray(content) && content.length === 0;
    if (blank) throw emptyText();
    checkOpenAIContent(content, model);
    return;
  }
  const filled = checkOpenAIContent(content, model);
  const reasoned = typeof message["reasoning_content"] === "string" && message["reasoning_content"] !== "";
  if (!filled && !(content === "" && reasoned)) throw emptyMessage(position, "assistant");
}

/** Every call is answered by the tool messages that directly follow it, and every tool message has its call. */
function checkToolExchange(messages: JsonObject[]): void {
  let open = new Set<string>();
  for (const message of [...messages, { role: "end" }]) {
    if (message["role"] === "tool") {
      const id = asString(message["tool_call_id"]) ?? "";
      if (!open.delete(id)) throw invalidRequest(`tool_call_id ${id} is not found`);
      continue;
    }
    if (open.size > 0) {
      throw invalidRequest(
        "an assistant message with 'tool_calls' must be followed by tool messages responding to each " +
          `'tool_call_id'. The following tool_call_ids did not have response messages: ${[...open].join(", ")}`,
      );
    }
    const ids = message["role"] === "assistant" ? objectsIn(message["tool_calls"]).map((call) => call["id"]) : [];
    open = new Set(ids.map((id) => (typeof id === "string" ? id : "")));
    if (open.size < ids.length) throw invalidRequest("Invalid request: duplicate tool call ids in one message");
    if (open.has("")) throw invalidRequest("tool_call_id  is not found");
  }
}

function checkReasoning(messages: JsonObject[], keepAll: boolean): void {
  for (const [index, message] of messages.entries()) {
    if (message["role"] !== "assistant" || typeof message["reasoning_content"] === "string") continue;
    const called = objectsIn(message["tool_calls"]).length > 0;
    if (!called && !keepAll) continue;
    throw invalidRequest(
      `thinking is enabled but reasoning_content is missing in assistant ${called ? "tool call " : ""}message ` +
        `at index ${index}`,
    );
  }
}
