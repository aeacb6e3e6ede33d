// Scenario → the one JSON document of a request with `stream: false` (docs/protocol.md#plain-answer).

import type { AnswerContext } from "./answer-context.ts";
import { settleUsage } from "./answer-context.ts";
import { anthropicStopReason } from "./anthropic-stream.ts";
import { isObject, parseJson, type Json, type JsonObject } from "./json.ts";
import { openAIUsage } from "./openai-stream.ts";
import { argumentsText, callId, completeSteps } from "./scenario.ts";
import type { Dialect, Scenario, ToolCallSpec, UsageSpec } from "./types.ts";

export function plainAnswer(dialect: Dialect, scenario: Scenario, context: AnswerContext): JsonObject {
  const parts = collect(scenario);
  return dialect === "openai" ? openAIAnswer(parts, context) : anthropicAnswer(parts, context);
}

interface Parts {
  thinking: string | undefined;
  text: string;
  calls: ToolCallSpec[];
  finish: string;
  usage: UsageSpec | undefined;
}

function collect(scenario: Scenario): Parts {
  const parts: Parts = { thinking: undefined, text: "", calls: [], finish: "stop", usage: undefined };
  for (const step of completeSteps(scenario)) {
    if ("text" in step) parts.text += step.text;
    else if ("thinking" in step) parts.thinking = (parts.thinking ?? "") + step.thinking;
    else if ("toolCall" in step) parts.calls.push(step.toolCall);
    else if ("toolCalls" in step) parts.calls.push(...step.toolCalls);
    else if ("repeat" in step) repeatInto(parts, step.repeat.kind, step.repeat.text.repeat(step.repeat.count));
    else if ("finish" in step) {
      parts.finish = step.finish;
      if (step.usage) parts.usage = step.usage;
    }
  }
  return parts;
}

function repeatInto(parts: Parts, kind: "text" | "thinking" | "arguments", value: string): void {
  if (kind === "text") parts.text += value;
  else if (kind === "thinking") parts.thinking = (parts.thinking ?? "") + value;
  else parts.calls.push({ name: "write", arguments: { content: value } });
}

function openAIAnswer(parts: Parts, context: AnswerContext): JsonObject {
  const message: JsonObject = { role: "assistant", content: parts.text };
  if (parts.thinking !== undefined) message["reasoning_content"] = parts.thinking;
  if (parts.calls.length > 0) {
    message["tool_calls"] = parts.calls.map((spec, index) => ({
      index,
      id: callId(spec, index),
      type: "function",
      function: { name: spec.name, arguments: argumentsText(spec) },
    }));
  }
  return {
    id: `chatcmpl-${context.id}`,
    object: "chat.completion",
    created: context.created,
    model: context.model,
    choices: [{ index: 0, message, finish_reason: parts.finish }],
    usage: openAIUsage(context, parts.usage),
  };
}

/** Usage in both conventions at once, as measured (docs/protocol.md#messages-usage). */
function anthropicAnswer(parts: Parts, context: AnswerContext): JsonObject {
  const content: Json[] = [];
  if (parts.thinking !== undefined) content.push({ type: "thinking", thinking: parts.thinking });
  if (parts.text !== "") content.push({ type: "text", text: parts.text });
  for (const [index, spec] of parts.calls.entries()) {
    const parsed = parseJson(argumentsText(spec));
    const input = parsed.ok && isObject(parsed.value) ? parsed.value : {};
    content.push({ type: "tool_use", id: callId(spec, index), name: spec.name, input });
  }
  const usage = settleUsage(context, parts.usage);
  return {
    id: `msg_${context.id}`,
    type: "message",
    role: "assistant",
    model: context.model,
    content,
    stop_reason: anthropicStopReason(parts.finish),
    stop_sequence: null,
    usage: parts.usage?.raw ?? {
      prompt_tokens: usage.prompt,
      input_tokens: usage.prompt - usage.cached,
      output_tokens: usage.completion,
      cache_read_input_tokens: usage.cached,
      cache_creation_input_tokens: 0,
      cached_tokens: usage.cached,
    },
  };
}
