// Scenario → Anthropic message events as Kimi streams them: thinking without signatures (docs/protocol.md#messages-thinking).

import type { AnswerContext } from "./answer-context.ts";
import { settleUsage } from "./answer-context.ts";
import type { JsonObject } from "./json.ts";
import { asString } from "./json.ts";
import { argumentsText, callId, completeSteps, pieces } from "./scenario.ts";
import type { RepeatSpec, Scenario, Step, ToolCallSpec, UsageSpec } from "./types.ts";
import type { WireOp } from "./wire.ts";

export function* renderAnthropic(scenario: Scenario, context: AnswerContext): Generator<WireOp> {
  const renderer = new AnthropicRenderer(context);
  for (const step of completeSteps(scenario)) {
    yield* renderer.step(step);
    if ("cut" in step || "errorFrame" in step) return;
  }
}

export function anthropicStopReason(finish: string): string {
  switch (finish) {
    case "stop":
      return "end_turn";
    case "tool_calls":
      return "tool_use";
    case "length":
      return "max_tokens";
    case "content_filter":
      return "refusal";
    default:
      return finish;
  }
}

function anthropicUsage(context: AnswerContext, spec: UsageSpec | undefined, output?: number): JsonObject {
  if (spec?.raw !== undefined) return spec.raw;
  const usage = settleUsage(context, spec);
  return {
    input_tokens: usage.prompt - usage.cached,
    output_tokens: output ?? usage.completion,
    cache_read_input_tokens: usage.cached,
    cache_creation_input_tokens: 0,
  };
}

class AnthropicRenderer {
  readonly #context: AnswerContext;
  #started = false;
  #blocks = 0;
  #calls = 0;
  /** The open text or thinking block, which a following step of the same kind continues. */
  #open: { kind: "text" | "thinking"; index: number } | undefined;

  constructor(context: AnswerContext) {
    this.#context = context;
  }

  *step(step: Step): Generator<WireOp> {
    if ("text" in step) yield* this.#deltas("text", step.text, step.size, step.pauseMs);
    else if ("thinking" in step) yield* this.#deltas("thinking", step.thinking, step.size, step.pauseMs);
    else if ("toolCall" in step) yield* this.#toolCalls([step.toolCall], step.size, step.pauseMs);
    else if ("toolCalls" in step) yield* this.#toolCalls(step.toolCalls, step.size, step.pauseMs);
    else if ("repeat" in step) yield* this.#repeat(step.repeat);
    else if ("finish" in step) yield* this.#finish(step);
    else if ("comment" in step) yield { kind: "comment", text: step.comment };
    else if ("raw" in step) yield { kind: "raw", text: step.raw };
    else if ("chunk" in step) yield event(step.chunk);
    else if ("errorFrame" in step) yield* this.#error(step.errorFrame);
    else if ("cut" in step) yield { kind: "cut", how: step.cut };
    else yield { kind: "pause", ms: step.pauseMs };
  }

  *#deltas(kind: "text" | "thinking", value: string, size?: number, pauseMs?: number): Generator<WireOp> {
    const index = yield* this.#block(kind);
    for (const [position, piece] of pieces(value, size).entries()) {
      if (position > 0 && pauseMs !== undefined) yield { kind: "pause", ms: pauseMs };
      yield event(delta(index, { type: `${kind}_delta`, [kind]: piece }));
    }
  }

  *#toolCalls(specs: ToolCallSpec[], size?: number, pauseMs?: number): Generator<WireOp> {
    yield* this.#close();
    const open: { index: number; rest: string[] }[] = [];
    for (const spec of specs) {
      const index = this.#blocks++;
      yield* this.#toolStart(index, callId(spec, this.#calls++), spec.name);
      open.push({ index, rest: pieces(argumentsText(spec), size) });
    }
    const rounds = Math.max(...open.map((one) => one.rest.length));
    for (let round = 0; round < rounds; round++) {
      for (const { index, rest } of open) {
        const piece = rest[round];
        if (piece === undefined) continue;
        if (pauseMs !== undefined) yield { kind: "pause", ms: pauseMs };
        yield event(delta(index, { type: "input_json_delta", partial_json: piece }));
      }
    }
    for (const { index } of open) yield event({ type: "content_block_stop", index });
  }

  *#repeat(spec: RepeatSpec): Generator<WireOp> {
    const load = (payload: JsonObject): WireOp => ({
      ...event(payload),
      kind: "load",
      count: spec.count,
      ...(spec.perSecond === undefined ? {} : { perSecond: spec.perSecond }),
    });
    if (spec.kind !== "arguments") {
      const index = yield* this.#block(spec.kind);
      yield load(delta(index, { type: `${spec.kind}_delta`, [spec.kind]: spec.text }));
      return;
    }
    yield* this.#close();
    const index = this.#blocks++;
    const name = spec.name ?? "write";
    yield* this.#toolStart(index, `${name}:${this.#calls++}`, name);
    const part = (json: string): JsonObject => delta(index, { type: "input_json_delta", partial_json: json });
    yield event(part('{"content":"'));
    yield load(part(JSON.stringify(spec.text).slice(1, -1)));
    yield event(part('"}'));
    yield event({ type: "content_block_stop", index });
  }

  *#finish(step: Extract<Step, { finish: string }>): Generator<WireOp> {
    yield* this.#close();
    const spec = step.usage === false ? undefined : step.usage;
    const withUsage = step.usage !== false && step.usagePlace !== "none";
    yield event({
      type: "message_delta",
      delta: { stop_reason: anthropicStopReason(step.finish), stop_sequence: null },
      ...(withUsage ? { usage: anthropicUsage(this.#context, spec) } : {}),
    });
    yield event({ type: "message_stop" });
  }

  *#error(error: { message: string; type?: string; code?: string }): Generator<WireOp> {
    const { type, ...rest } = error;
    yield event({ type: "error", error: { type: type ?? "api_error", ...rest } });
  }

  *#start(): Generator<WireOp> {
    if (this.#started) return;
    this.#started = true;
    yield event({
      type: "message_start",
      message: {
        id: `msg_${this.#context.id}`,
        type: "message",
        role: "assistant",
        model: this.#context.model,
        content: [],
        stop_reason: null,
        stop_sequence: null,
        usage: anthropicUsage(this.#context, undefined, 0),
      },
    });
  }

  *#block(kind: "text" | "thinking"): Generator<WireOp, number> {
    if (this.#open?.kind === kind) return this.#open.index;
    yield* this.#close();
    const index = this.#blocks++;
    this.#open = { kind, index };
    yield event({ type: "content_block_start", index, content_block: { type: kind, [kind]: "" } });
    return index;
  }

  *#toolStart(index: number, id: string, name: string): Generator<WireOp> {
    yield event({ type: "content_block_start", index, content_block: { type: "tool_use", id, name, input: {} } });
  }

  *#close(): Generator<WireOp> {
    yield* this.#start();
    if (this.#open === undefined) return;
    yield event({ type: "content_block_stop", index: this.#open.index });
    this.#open = undefined;
  }
}

function delta(index: number, change: JsonObject): JsonObject {
  return { type: "content_block_delta", index, delta: change };
}

function event(payload: JsonObject): { kind: "frame"; event?: string; data: string } {
  const name = asString(payload["type"]);
  return { kind: "frame", data: JSON.stringify(payload), ...(name === undefined ? {} : { event: name }) };
}
