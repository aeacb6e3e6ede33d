// Scenario → chat.completion.chunk stream (docs/protocol.md#chat-events).

import type { AnswerContext } from "./answer-context.ts";
import { settleUsage } from "./answer-context.ts";
import type { Json, JsonObject } from "./json.ts";
import { argumentsText, callId, completeSteps, pieces } from "./scenario.ts";
import type { RepeatSpec, Scenario, Step, ToolCallSpec, UsageSpec } from "./types.ts";
import type { WireOp } from "./wire.ts";

export function* renderOpenAI(scenario: Scenario, context: AnswerContext): Generator<WireOp> {
  const renderer = new OpenAIRenderer(context);
  let finished = false;
  for (const step of completeSteps(scenario)) {
    if ("finish" in step) finished = true;
    yield* renderer.step(step);
    if ("cut" in step || "errorFrame" in step) return;
  }
  if (finished && !scenario.omitDone) yield { kind: "frame", data: "[DONE]" };
}

export function openAIUsage(context: AnswerContext, spec: UsageSpec | undefined): JsonObject {
  if (spec?.raw !== undefined) return spec.raw;
  const usage = settleUsage(context, spec);
  return {
    prompt_tokens: usage.prompt,
    completion_tokens: usage.completion,
    total_tokens: usage.prompt + usage.completion,
    cached_tokens: usage.cached,
    ...(usage.reasoning > 0 ? { completion_tokens_details: { reasoning_tokens: usage.reasoning } } : {}),
  };
}

class OpenAIRenderer {
  readonly #context: AnswerContext;
  #started = false;
  #calls = 0;

  constructor(context: AnswerContext) {
    this.#context = context;
  }

  *step(step: Step): Generator<WireOp> {
    if ("text" in step) yield* this.#deltas("content", step.text, step.size, step.pauseMs);
    else if ("thinking" in step) yield* this.#deltas("reasoning_content", step.thinking, step.size, step.pauseMs);
    else if ("toolCall" in step) yield* this.#toolCalls([step.toolCall], step.size, step.pauseMs);
    else if ("toolCalls" in step) yield* this.#toolCalls(step.toolCalls, step.size, step.pauseMs);
    else if ("repeat" in step) yield* this.#repeat(step.repeat);
    else if ("finish" in step) yield* this.#finish(step);
    else if ("comment" in step) yield { kind: "comment", text: step.comment };
    else if ("raw" in step) yield { kind: "raw", text: step.raw };
    else if ("chunk" in step) yield { kind: "frame", data: JSON.stringify(step.chunk) };
    else if ("errorFrame" in step) yield { kind: "frame", data: JSON.stringify({ error: step.errorFrame }) };
    else if ("cut" in step) yield { kind: "cut", how: step.cut };
    else yield { kind: "pause", ms: step.pauseMs };
  }

  *#deltas(key: string, value: string, size: number | undefined, pauseMs: number | undefined): Generator<WireOp> {
    for (const [index, piece] of pieces(value, size).entries()) {
      if (index > 0 && pauseMs !== undefined) yield { kind: "pause", ms: pauseMs };
      yield* this.#delta({ [key]: piece });
    }
  }

  *#toolCalls(specs: ToolCallSpec[], size: number | undefined, pauseMs: number | undefined): Generator<WireOp> {
    const open = specs.map((spec) => {
      const index = spec.index ?? this.#calls;
      this.#calls = Math.max(this.#calls, index) + 1;
      return { index, spec, rest: pieces(argumentsText(spec), size) };
    });
    for (const { index, spec } of open) {
      const fn = { name: spec.name, arguments: "" };
      yield* this.#delta({ tool_calls: [{ index, id: callId(spec, index), type: "function", function: fn }] });
    }
    const rounds = Math.max(...open.map((one) => one.rest.length));
    for (let round = 0; round < rounds; round++) {
      for (const { index, rest } of open) {
        const piece = rest[round];
        if (piece === undefined) continue;
        if (pauseMs !== undefined) yield { kind: "pause", ms: pauseMs };
        yield* this.#delta({ tool_calls: [{ index, function: { arguments: piece } }] });
      }
    }
  }

  *#repeat(spec: RepeatSpec): Generator<WireOp> {
    const load = (delta: JsonObject): WireOp => ({
      kind: "load",
      data: this.#chunk(delta),
      count: spec.count,
      ...(spec.perSecond === undefined ? {} : { perSecond: spec.perSecond }),
    });
    if (spec.kind !== "arguments") {
      yield* this.#role();
      yield load({ [spec.kind === "text" ? "content" : "reasoning_content"]: spec.text });
      return;
    }
    const index = this.#calls++;
    const name = spec.name ?? "write";
    const head = { name, arguments: '{"content":"' };
    yield* this.#delta({ tool_calls: [{ index, id: `${name}:${index}`, type: "function", function: head }] });
    const escaped = JSON.stringify(spec.text).slice(1, -1);
    yield load({ tool_calls: [{ index, function: { arguments: escaped } }] });
    yield* this.#delta({ tool_calls: [{ index, function: { arguments: '"}' } }] });
  }

  *#finish(step: Extract<Step, { finish: string }>): Generator<WireOp> {
    yield* this.#role();
    const place = step.usage === false ? "none" : (step.usagePlace ?? "choice");
    const usage = openAIUsage(this.#context, step.usage === false ? undefined : step.usage);
    yield {
      kind: "frame",
      data: this.#chunk({}, step.finish, place === "choice" ? { usage } : {}, place === "top" ? { usage } : {}),
    };
    if (place === "chunk") yield { kind: "frame", data: JSON.stringify({ ...this.#envelope(), choices: [], usage }) };
  }

  *#role(): Generator<WireOp> {
    if (this.#started) return;
    this.#started = true;
    yield { kind: "frame", data: this.#chunk({ role: "assistant", content: "" }) };
  }

  *#delta(delta: JsonObject): Generator<WireOp> {
    yield* this.#role();
    yield { kind: "frame", data: this.#chunk(delta) };
  }

  #envelope(): JsonObject {
    return {
      id: `chatcmpl-${this.#context.id}`,
      object: "chat.completion.chunk",
      created: this.#context.created,
      model: this.#context.model,
    };
  }

  #chunk(delta: JsonObject, reason: Json = null, inChoice: JsonObject = {}, atTop: JsonObject = {}): string {
    const choice = { index: 0, delta, finish_reason: reason, ...inChoice };
    return JSON.stringify({ ...this.#envelope(), choices: [choice], ...atTop, system_fingerprint: "fpv0_10a6da87" });
  }
}
