/**
 * Stops a model of ours that repeats tool calls without news, in Pi: a notice, then calls that are not executed, then the end of the run.
 *
 * Pi's `tool_call` may block a call and its reason becomes the result that the model reads, so everything before it in the transcript
 * stays as it was, and cached. Pi's `terminate` would end a run without an error; instead the next request is answered here.
 */
import type { ExtensionAPI, ExtensionContext } from "@earendil-works/pi-coding-agent";
import type { TranscriptContext } from "@earendil-works/pi-ai";
import { isFirstWarning, type LoopDecision, LoopGuard, type LoopLimits } from "./loop-guard.ts";
import { warn } from "./warning.ts";

/** Type of the session entries that keep what was done. */
const ENTRY_TYPE = "kimi_loop";

/** A call of the current message. */
interface Call {
  tool: string;
  args: unknown;
  hasResult: boolean;
}

/** A run that was ended, and the calls for whose results the model must not be asked. */
interface EndedRun {
  reason: string;
  calls: Set<string>;
}

/** The brake of one session. */
export class LoopBrake {
  readonly #pi: Pick<ExtensionAPI, "appendEntry">;
  readonly #readLimits: () => Required<LoopLimits>;
  #limits: Required<LoopLimits> | undefined;
  #guard = new LoopGuard();
  readonly #calls = new Map<string, Call>();
  /** Decisions that were acted on; identical calls of one message share theirs. */
  readonly #done = new WeakSet<LoopDecision>();
  #ended: EndedRun | undefined;

  constructor(pi: Pick<ExtensionAPI, "appendEntry">, readLimits: () => Required<LoopLimits>) {
    this.#pi = pi;
    this.#readLimits = readLimits;
  }

  /** Forgets all calls: the user has said something, or another session begins. */
  reset(): void {
    this.forgetResults();
    this.#ended = undefined;
  }

  /** Begins to count anew, because the model no longer has the results it was given. A run that was ended stays so. */
  forgetResults(): void {
    this.#limits = undefined;
    this.#calls.clear();
  }

  /** Takes new limits, and begins to count anew where they differ. */
  follow(limits: Required<LoopLimits>): void {
    const before = this.#limits;
    if (before === undefined) return;
    if (limits.warn === before.warn && limits.block === before.block && limits.stop === before.stop) return;
    this.forgetResults();
  }

  /** Begins a message of the model. */
  startMessage(): void {
    this.#calls.clear();
    this.#guard.startMessage();
  }

  /** Decides about a call. Returns the reason if it must not be executed. */
  before(id: string, tool: string, args: unknown, ctx: ExtensionContext): string | undefined {
    return this.#judge(id, tool, args, ctx, true);
  }

  #judge(id: string, tool: string, args: unknown, ctx: ExtensionContext, canBlock: boolean): string | undefined {
    if (this.#limits === undefined) {
      this.#limits = this.#readLimits();
      this.#guard = new LoopGuard(this.#limits);
      this.#guard.startMessage();
    }
    this.#calls.set(id, { tool, args, hasResult: false });
    const decision = this.#guard.before(tool, args);
    if (decision === undefined) return undefined;
    if (!this.#done.has(decision) && (canBlock || decision.action !== "block")) {
      this.#done.add(decision);
      this.#act(tool, decision, ctx);
    }
    if (decision.action === "warn") return undefined;
    if (decision.action === "stop") {
      this.#ended ??= { reason: decision.reason, calls: new Set() };
      this.#ended.calls.add(id);
    }
    return decision.reason;
  }

  #act(tool: string, decision: LoopDecision, ctx: ExtensionContext): void {
    const { action, streak, reason } = decision;
    if (action === "warn") {
      if (!isFirstWarning(decision, this.#limits?.warn ?? 0)) return;
      warn(ctx, `Kimi repeats itself: ${reason}`);
    }
    this.#pi.appendEntry(ENTRY_TYPE, { tool, streak, action });
  }

  /** Notes the result of a call. */
  after(id: string, { content, isError }: Pick<ToolResult, "content" | "isError">): void {
    const call = this.#calls.get(id);
    if (call === undefined || call.hasResult) return;
    call.hasResult = true;
    // Details are for the screen, and often hold times.
    this.#guard.after(call.tool, call.args, [isError, content]);
  }

  /**
   * Notes the results of a message whose calls never came by: Pi refuses arguments that do not fit, and other extensions block calls,
   * before ours is asked.
   */
  endMessage(calls: MessageCall[], results: ToolResult[], ctx: ExtensionContext): void {
    for (const { id, name, arguments: args } of calls) {
      if (!this.#calls.has(id)) this.#judge(id, name, args, ctx, false);
      const result = results.find(({ toolCallId }) => toolCallId === id);
      if (result !== undefined) this.after(id, result);
    }
  }

  /** Returns why a request is not sent: the run that it belongs to was ended. */
  refusal({ messages }: TranscriptContext): string | undefined {
    const ended = this.#ended;
    if (ended === undefined) return undefined;
    const lastUser = messages.findLastIndex(({ role }) => role === "user");
    const belongs = messages
      .slice(lastUser + 1)
      .some((message) => message.role === "toolResult" && ended.calls.has(message.toolCallId));
    return belongs ? `Kimi was stopped: ${ended.reason}` : undefined;
  }
}

interface MessageCall {
  id: string;
  name: string;
  arguments: unknown;
}

interface ToolResult {
  toolCallId: string;
  content: unknown;
  isError: boolean;
}
