// Builders for scenarios, the check for those that arrive over the admin endpoint, and the rules both renderers share: the
// default finish, and how text is split into deltas.

import { isObject, type Json, type JsonObject } from "./json.ts";
import { countTokens } from "./tokens.ts";
import type { RepeatSpec, Scenario, Step, ToolCallSpec, UsagePlace, UsageSpec } from "./types.ts";

export function scenario(name: string, ...steps: Step[]): Scenario {
  return { name, steps };
}

export function text(value: string, options: { size?: number; pauseMs?: number } = {}): Step {
  return { text: value, ...options };
}

export function think(value: string, options: { size?: number; pauseMs?: number } = {}): Step {
  return { thinking: value, ...options };
}

export function call(
  name: string,
  args: string | JsonObject,
  options: { id?: string; index?: number; size?: number; pauseMs?: number } = {},
): Step {
  const { id, index, ...pacing } = options;
  const spec: ToolCallSpec = { name, arguments: args, ...(id === undefined ? {} : { id }) };
  if (index !== undefined) spec.index = index;
  return { toolCall: spec, ...pacing };
}

export function calls(specs: ToolCallSpec[], options: { size?: number; pauseMs?: number } = {}): Step {
  return { toolCalls: specs, interleave: true, ...options };
}

export function finish(reason: string, usage?: UsageSpec | false, usagePlace?: UsagePlace): Step {
  return {
    finish: reason,
    ...(usage === undefined ? {} : { usage }),
    ...(usagePlace === undefined ? {} : { usagePlace }),
  };
}

export function pause(ms: number): Step {
  return { pauseMs: ms };
}

export function comment(value: string): Step {
  return { comment: value };
}

export function raw(value: string): Step {
  return { raw: value };
}

export function chunk(value: JsonObject): Step {
  return { chunk: value };
}

export function errorFrame(message: string, type?: string, code?: string): Step {
  return { errorFrame: { message, ...(type ? { type } : {}), ...(code ? { code } : {}) } };
}

export function cut(how: "end" | "close" | "reset" = "end"): Step {
  return { cut: how };
}

export function repeat(kind: RepeatSpec["kind"], count: number, value: string, perSecond?: number): Step {
  return { repeat: { kind, count, text: value, ...(perSecond === undefined ? {} : { perSecond }) } };
}

export function argumentsText(spec: ToolCallSpec): string {
  return typeof spec.arguments === "string" ? spec.arguments : JSON.stringify(spec.arguments);
}

export function callId(spec: ToolCallSpec, index: number): string {
  return spec.id ?? `${spec.name}:${index}`;
}

/** Returns the steps to render. A script without raw bytes, an error frame or a cut gets a fitting `finish` if it has none. */
export function completeSteps(source: Scenario): Step[] {
  const steps = source.steps ?? [{ text: "ok" }];
  const selfEnding = steps.some((step) => "finish" in step || "raw" in step || "errorFrame" in step || "cut" in step);
  if (selfEnding) return steps;
  const usesTools = steps.some(
    (step) => "toolCall" in step || "toolCalls" in step || ("repeat" in step && step.repeat.kind === "arguments"),
  );
  return [...steps, { finish: usesTools ? "tool_calls" : "stop" }];
}

/** What the steps amount to in output tokens. */
export function outputTokens(steps: Step[]): number {
  let tokens = 0;
  for (const step of steps) {
    if ("text" in step) tokens += countTokens(step.text);
    else if ("thinking" in step) tokens += countTokens(step.thinking);
    else if ("toolCall" in step) tokens += countTokens(step.toolCall.name + argumentsText(step.toolCall));
    else if ("toolCalls" in step) for (const spec of step.toolCalls) tokens += countTokens(argumentsText(spec));
    else if ("repeat" in step) tokens += step.repeat.count * countTokens(step.repeat.text);
  }
  return tokens;
}

/** Splits into chunks of `size` characters; a surrogate pair is never split, as in the service. */
export function pieces(value: string, size: number | undefined): string[] {
  if (size === undefined || size <= 0 || value.length <= size) return [value];
  const result: string[] = [];
  for (let start = 0; start < value.length;) {
    let end = Math.min(start + size, value.length);
    const before = value.charCodeAt(end - 1);
    if (before >= 0xd800 && before < 0xdc00 && end < value.length) end++;
    result.push(value.slice(start, end));
    start = end;
  }
  return result;
}

const STEP_KEYS = [
  "text",
  "thinking",
  "toolCall",
  "toolCalls",
  "finish",
  "pauseMs",
  "comment",
  "raw",
  "chunk",
  "errorFrame",
  "cut",
  "repeat",
];
const SCENARIO_KEYS = [
  "name",
  "http",
  "headers",
  "headersDelayMs",
  "hang",
  "steps",
  "chunkBytes",
  "lineEnding",
  "noSpaceAfterData",
  "omitDone",
  "omitFinalBlankLine",
  "bom",
  "model",
];

/** Returns an error message for an invalid scenario that came in as JSON, or `undefined` if it is valid. */
export function scenarioProblem(value: Json | undefined): string | undefined {
  if (!isObject(value)) return "a scenario must be an object";
  const stranger = Object.keys(value).find((key) => !SCENARIO_KEYS.includes(key));
  if (stranger !== undefined) return `unknown scenario member '${stranger}'`;
  if (value["http"] !== undefined) {
    if (!isObject(value["http"]) || typeof value["http"]["status"] !== "number") return "http needs a status";
  }
  if (value["steps"] === undefined) return undefined;
  if (!Array.isArray(value["steps"])) return "steps must be an array";
  for (const step of value["steps"]) {
    if (!isObject(step)) return "a step must be an object";
    if (!STEP_KEYS.some((key) => step[key] !== undefined)) return `unknown step ${JSON.stringify(step)}`;
  }
  return undefined;
}
