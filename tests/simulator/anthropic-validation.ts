// Bodies of `/v1/messages` that the service refuses with 400 (docs/protocol.md#messages-body, docs/protocol.md#error-bodies).

import type { ResolvedModel } from "./catalog.ts";
import { checkAnthropicMedia, emptyMessage, emptyText } from "./content-validation.ts";
import { invalidRequest } from "./errors.ts";
import { asObject, asString, isObject, type Json, type JsonObject } from "./json.ts";
import { checkCount, checkSampling, checkThinking, checkToolChoice } from "./parameter-validation.ts";
import { checkAnthropicTools } from "./tools-validation.ts";
import type { Settings } from "./types.ts";

/** Members of the other dialect that this endpoint does not take (docs/protocol.md#messages-body). */
const FOREIGN = ["stream_options", "max_completion_tokens"];

export function checkAnthropicRequest(body: JsonObject, model: ResolvedModel, settings: Settings): void {
  if (typeof body["model"] !== "string" || body["model"] === "") {
    throw invalidRequest("Invalid request: model is required");
  }
  for (const name of FOREIGN) {
    if (body[name] !== undefined) throw invalidRequest(`Invalid request: unknown field ${name}`);
  }
  if (body["max_tokens"] === undefined) throw invalidRequest("Invalid request: max_tokens is required");
  checkCount(body, "max_tokens");
  checkSampling(body, model);
  const thinking = asObject(body["thinking"]);
  const effort = asObject(body["output_config"])?.["effort"] ?? thinking?.["effort"];
  checkThinking(body["thinking"], effort, ["enabled", "adaptive", "disabled"], model);
  const thinks = model.thinking !== "no" && thinking !== undefined && thinking["type"] !== "disabled";
  checkToolChoice(body["tool_choice"], thinks);
  checkAnthropicTools(body["tools"], settings);
  checkSystem(body["system"]);

  const messages = body["messages"];
  if (!Array.isArray(messages) || messages.length === 0) {
    throw invalidRequest("Invalid request: messages must not be empty");
  }
  let open = new Set<string>();
  for (const [position, message] of messages.entries()) {
    if (!isObject(message)) throw invalidRequest("Invalid request: a message must be an object");
    const role = asString(message["role"]) ?? "";
    if (role !== "user" && role !== "assistant") {
      throw invalidRequest(
        `Invalid request: the message at position ${position} has an unsupported role: ROLE_UNSPECIFIED`,
      );
    }
    const blocks = blocksOf(message["content"]);
    if (blocks.length === 0) throw emptyMessage(position, role);
    for (const block of blocks) checkBlock(block, role, model);
    const results = new Set(
      blocks.filter((block) => block["type"] === "tool_result").map((block) => asString(block["tool_use_id"]) ?? ""),
    );
    checkAnswers(open, results);
    open = new Set(blocks.filter((block) => block["type"] === "tool_use").map((block) => asString(block["id"]) ?? ""));
    if (thinks && open.size > 0) checkThought(blocks, position);
  }
  checkAnswers(open, new Set());
}

function blocksOf(content: Json | undefined): JsonObject[] {
  if (typeof content === "string") return content === "" ? [] : [{ type: "text", text: content }];
  if (!Array.isArray(content)) return [];
  if (!content.every(isObject)) throw invalidRequest("Invalid request: a content block must be an object");
  return content as JsonObject[];
}

function checkSystem(system: Json | undefined): void {
  if (system === undefined || typeof system === "string") return;
  for (const block of blocksOf(system)) {
    if (block["type"] !== "text") throw invalidRequest("Invalid request: system takes text blocks only");
    if (!asString(block["text"])) throw emptyText();
  }
}

function checkBlock(block: JsonObject, role: string, model: ResolvedModel): void {
  const type = asString(block["type"]) ?? "";
  switch (type) {
    case "text":
      if (!asString(block["text"])) throw emptyText();
      return;
    case "image":
    case "video":
      return checkAnthropicMedia(block, model);
    case "tool_result":
      if (role !== "user") break;
      return checkResult(block, model);
    case "tool_use":
      if (role !== "assistant") break;
      if (!asString(block["name"])) throw invalidRequest("Invalid request: tool_use without a name");
      if (!isObject(block["input"])) throw invalidRequest("Invalid request: tool_use.input must be an object");
      return;
    case "thinking":
      if (role !== "assistant") break;
      // A signature may be missing or empty, the text may not (docs/protocol.md#messages-thinking).
      if (typeof block["thinking"] !== "string") throw invalidRequest("Invalid request: thinking must be a string");
      return;
    case "redacted_thinking":
      if (role !== "assistant") break;
      return;
  }
  throw invalidRequest(`Invalid request: unsupported ${role} content block type '${type}'`);
}

/** An empty result is fine as long as it is there: `""` and `[]` pass, an omitted content does not. */
function checkResult(block: JsonObject, model: ResolvedModel): void {
  const { content } = block;
  if (content === undefined) throw invalidRequest("Invalid request Error");
  if (typeof content === "string") return;
  for (const part of blocksOf(content)) {
    if (part["type"] === "tool_result") throw invalidRequest("Invalid request: nested tool_result");
    checkBlock(part, "user", model);
  }
}

function checkAnswers(open: Set<string>, results: Set<string>): void {
  for (const id of results) {
    if (!open.has(id)) throw invalidRequest(`tool_call_id ${id} is not found`);
  }
  const missing = [...open].filter((id) => !results.has(id));
  if (missing.length > 0) {
    throw invalidRequest(
      "an assistant message with 'tool_calls' must be followed by tool messages responding to each " +
        `'tool_call_id'. The following tool_call_ids did not have response messages: ${missing.join(", ")}`,
    );
  }
}

function checkThought(blocks: JsonObject[], position: number): void {
  if (blocks.some((block) => block["type"] === "thinking" || block["type"] === "redacted_thinking")) return;
  throw invalidRequest(
    `thinking is enabled but reasoning_content is missing in assistant tool call message at index ${position}`,
  );
}
