/**
 * The tool loop: asks, runs the tools that the model calls, and asks again with their results.
 */
import { KimiError, kimiError } from "../errors.ts";
import { allLimits, isFirstWarning, type LoopDecision, LoopGuard, type LoopLimits } from "../loop-guard.ts";
import type { AssistantMessage, ChatMessage, Tool, ToolCall, ToolResultMessage, Usage } from "../messages.ts";
import type { Chat, ChatEvent } from "./chat.ts";
import { checkRun, isResultPart } from "./input.ts";
import { schemaProblem } from "./json-schema.ts";
import type { ChatOptions, ChatRequest } from "./options.ts";

/** A tool that `kimi.run` executes. */
export interface RunTool extends Tool {
  /**
   * Runs a call. Text is passed on as it is, a list of parts (`text`, `image`, `image_url`, `video_url`) as parts, anything else as
   * JSON. What it throws is reported to the model.
   */
  execute(args: never, context: { signal: AbortSignal; callId: string }): unknown;
}

/** A question to the model with the calls of its answer. */
export interface RunStep {
  message: AssistantMessage;
  calls: { call: ToolCall; result: string; isError: boolean }[];
}

export interface RunOptions extends Omit<ChatOptions, "tools"> {
  /** The conversation so far. */
  messages?: readonly ChatMessage[];
  /** A question, in place of `messages`. */
  prompt?: string;
  tools?: readonly RunTool[];
  /** Largest number of requests; the calls of the last answer still run. Default: 50. */
  maxSteps?: number;
  /** Limits for repeated calls; false switches the guard off. Default: the settings `loop.warn`, `loop.block`, `loop.stop`. */
  loop?: LoopLimits | false;
  /** Receives every step when its calls are done. */
  onStep?: (step: RunStep) => void | Promise<void>;
  /** Receives the events of all chats, and a `note` event when a call reaches `loop.warn`. */
  onEvent?: (event: ChatEvent) => void;
}

export interface RunResult {
  /** Text of the last answer. */
  text: string;
  /** The whole conversation, to go on with: with the results of all calls, also those of the last answer. */
  messages: ChatMessage[];
  steps: RunStep[];
  /** Sum over all steps. */
  usage: Usage;
  /** `length`: the last answer reached its output limit. `max_steps`: the model wanted to go on. */
  stopReason: "stop" | "length" | "max_steps";
}

const MAX_STEPS = 50;

/** What a run uses of its client. */
export interface RunParts {
  /** Starts one chat. */
  ask(request: ChatRequest): Chat;
  /** Returns the limits of the settings. */
  loopLimits(): Required<LoopLimits>;
}

/** Runs the loop. */
export async function run({ ask, loopLimits }: RunParts, options: RunOptions): Promise<RunResult> {
  checkRun(options);
  const { prompt, messages: given, tools = [], maxSteps = MAX_STEPS, loop, onStep, onEvent, signal, ...rest } = options;
  const messages: ChatMessage[] = given === undefined ? [{ role: "user", content: prompt ?? "" }] : [...given];
  const own = new AbortController();
  const combined = signal === undefined ? own.signal : AbortSignal.any([signal, own.signal]);
  const guard = loop === false ? undefined : new RunGuard(allLimits(loop ?? {}, loopLimits()), onEvent);
  const described = tools.map(({ execute: _execute, ...tool }) => tool);
  // All requests of a run share the prompt cache.
  const request = { sessionId: crypto.randomUUID(), ...rest, ...(tools.length > 0 ? { tools: described } : {}) };
  const steps: RunStep[] = [];
  try {
    for (;;) {
      const chat = ask({ ...request, messages, signal: combined });
      if (onEvent !== undefined) for await (const event of chat) onEvent(event);
      const message = await chat.final();
      messages.push(message);
      const calls = message.content.filter((part) => part.type === "toolCall");
      const step: RunStep = { message, calls: [] };
      steps.push(step);
      guard?.startMessage();
      await runCalls(calls, (call) => execute(call, tools, guard, combined), combined, messages, step);
      await onStep?.(step);
      combined.throwIfAborted();
      if (calls.length === 0 || steps.length >= maxSteps) {
        const stopReason = calls.length > 0 ? "max_steps" : message.stopReason === "length" ? "length" : "stop";
        return { text: textOf(message.content), messages, steps, usage: total(steps), stopReason };
      }
    }
  } catch (error) {
    const aborted = error === combined.reason && signal?.aborted;
    const failure = aborted
      ? kimiError({ code: "cancelled", message: "Request was aborted" }, { cause: signal.reason })
      : error;
    // A caller's own error may be frozen, and one that was thrown before belongs to this run now.
    if (failure instanceof KimiError && Object.isExtensible(failure)) failure.messages = messages;
    throw failure;
  } finally {
    // Ends calls that still run beside one that failed.
    own.abort();
  }
}

/** The guard of a run. Tells the caller once when a call reaches the limit for that. */
class RunGuard extends LoopGuard {
  readonly #onEvent: RunOptions["onEvent"];
  readonly #warn: number;
  /** Identical calls of one answer share their decision. */
  readonly #told = new WeakSet<LoopDecision>();

  constructor(limits: Required<LoopLimits>, onEvent: RunOptions["onEvent"]) {
    super(limits);
    this.#warn = limits.warn;
    this.#onEvent = onEvent;
  }

  override before(tool: string, args: unknown): LoopDecision | undefined {
    const decision = super.before(tool, args);
    if (decision !== undefined && isFirstWarning(decision, this.#warn) && !this.#told.has(decision)) {
      this.#told.add(decision);
      this.#onEvent?.({ type: "note", message: `Kimi repeats itself: ${decision.reason}` });
    }
    return decision;
  }
}

type ResultContent = ToolResultMessage["content"];

interface Outcome {
  call: ToolCall;
  content: ResultContent;
  isError: boolean;
}

/** Runs the calls of an answer side by side. Where one or `signal` ends the run, the results of those that are done are kept. */
async function runCalls(
  calls: ToolCall[],
  runCall: (call: ToolCall) => Promise<Outcome>,
  signal: AbortSignal,
  messages: ChatMessage[],
  step: RunStep,
): Promise<void> {
  const outcomes: (Outcome | undefined)[] = calls.map(() => undefined);
  let abort = (): void => {};
  const aborted = new Promise<never>((_, reject) => (abort = () => reject(signal.reason as Error)));
  signal.addEventListener("abort", abort);
  const execution = calls.map(async (call, at) => {
    outcomes[at] = await runCall(call);
  });
  try {
    // A tool may ignore the signal.
    await Promise.race([Promise.all(execution), aborted]);
  } finally {
    signal.removeEventListener("abort", abort);
    for (const { call, content, isError } of outcomes.filter((outcome) => outcome !== undefined)) {
      messages.push({ role: "toolResult", toolCallId: call.id, toolName: call.name, content, isError });
      step.calls.push({ call, result: textOf(content), isError });
    }
  }
}

async function execute(
  call: ToolCall,
  tools: readonly RunTool[],
  guard: LoopGuard | undefined,
  signal: AbortSignal,
): Promise<Outcome> {
  const failed = (text: string): Outcome => ({ call, content: [{ type: "text", text }], isError: true });
  const decision = guard?.before(call.name, call.arguments);
  if (decision?.action === "stop") throw kimiError({ code: "tool_loop", message: decision.reason });
  if (decision?.action === "block") return failed(decision.reason);
  const tool = tools.find(({ name }) => name === call.name);
  const outcome = await (async () => {
    if (tool === undefined) return failed(`there is no tool ${call.name}`);
    const { argumentsError } = call as { argumentsError?: string };
    if (argumentsError !== undefined) return failed(`the arguments cannot be read: ${argumentsError}`);
    const problem = tool.parameters === undefined ? undefined : schemaProblem(call.arguments, tool.parameters);
    if (problem !== undefined) return failed(`the arguments do not follow the schema: ${problem}`);
    try {
      const result: unknown = await tool.execute(call.arguments as never, { signal, callId: call.id });
      return { call, content: resultContent(result), isError: false };
    } catch (error) {
      signal.throwIfAborted();
      return failed(error instanceof Error ? error.message : String(error));
    }
  })();
  guard?.after(call.name, call.arguments, outcome.content);
  return outcome;
}

function resultContent(result: unknown): ResultContent {
  if (typeof result === "string") return [{ type: "text", text: result }];
  if (Array.isArray(result) && result.length > 0 && result.every(isResultPart)) return result as ResultContent;
  return [{ type: "text", text: result === undefined ? "" : (JSON.stringify(result) ?? "") }];
}

function textOf(content: readonly { type: string; text?: string }[]): string {
  return content.map((part) => (part.type === "text" ? part.text : "")).join("");
}

function total(steps: RunStep[]): Usage {
  const sum: Usage = {
    ...{ input: 0, output: 0, cacheRead: 0, cacheWrite: 0, totalTokens: 0 },
    cost: { input: 0, output: 0, cacheRead: 0, cacheWrite: 0, total: 0 },
  };
  for (const { message } of steps) {
    const { cost, reasoning, ...counts } = message.usage;
    for (const name of Object.keys(counts) as (keyof typeof counts)[]) sum[name] = (sum[name] ?? 0) + counts[name];
    for (const name of Object.keys(cost) as (keyof typeof cost)[]) sum.cost[name] += cost[name];
    if (reasoning !== undefined) sum.reasoning = (sum.reasoning ?? 0) + reasoning;
  }
  return sum;
}
