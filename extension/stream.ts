/**
 * Frames of the addon → Pi's events (pi-extension §3).
 *
 * One live message per turn: blocks are mutated in place and never replaced, `start` comes after `onResponse`, and exactly one
 * terminal event leaves, whatever a hook, the addon or the consumer does.
 */
import type {
  AssistantMessage,
  AssistantMessageEvent,
  AssistantMessageEventStream,
  Model,
  SimpleStreamOptions,
  TextContent,
  ThinkingContent,
  ToolCall,
  TranscriptContext,
  Usage,
} from "@earendil-works/pi-ai";
import { contextText } from "./context.ts";
import { LiveArguments, type LiveCall } from "./arguments.ts";
import { environment, type Host } from "./environment.ts";
import { type Medium, withoutMedia } from "./media.ts";
import { type Addon, type Op, OpCode, type TurnHandle } from "./native.ts";
import { type Notice, Notices, type TurnNotice } from "./notices.ts";

/** How long the addon may take to confirm an abort before the turn ends without it. */
const ABORT_GRACE_MS = 60;

/** Options beyond Pi 0.87's declaration: newer versions add `onProviderStreamEvent`. */
export type TurnOptions = SimpleStreamOptions & {
  onProviderStreamEvent?: (event: unknown, model: Model<string>) => void | Promise<void>;
};

interface Summary {
  usage?: Usage;
  responseId?: string;
  responseModel?: string;
  rawStopReason?: string;
}

/** Runs one turn and feeds its events into `stream`, which the caller has already handed out. */
export function runTurn(
  addon: Addon,
  host: Host,
  stream: AssistantMessageEventStream,
  model: Model<string>,
  context: TranscriptContext,
  options: TurnOptions = {},
  notices: Notices = new Notices(),
): void {
  const turn = new Turn(stream, model, options, notices.open());
  try {
    turn.begin(addon, host, context);
  } catch (error) {
    turn.fail(errorText(error));
  }
}

class Turn {
  readonly #stream: AssistantMessageEventStream;
  readonly #model: Model<string>;
  readonly #options: TurnOptions;
  readonly #message: AssistantMessage;
  readonly #calls = new Map<number, LiveArguments>();
  readonly #notice: TurnNotice;
  #handle: TurnHandle | undefined;
  #media: Medium[] = [];
  /** Ops that wait for a hook to finish. */
  #waiting: Op[] = [];
  #hookRunning = false;
  #started = false;
  #over = false;

  constructor(stream: AssistantMessageEventStream, model: Model<string>, options: TurnOptions, notice: TurnNotice) {
    this.#stream = stream;
    this.#notice = notice;
    this.#model = model;
    this.#options = options;
    this.#message = {
      role: "assistant",
      content: [],
      api: model.api,
      provider: model.provider,
      model: model.id,
      usage: noUsage(),
      stopReason: "stop",
      timestamp: Date.now(),
    };
  }

  begin(addon: Addon, host: Host, context: TranscriptContext): void {
    const { signal, onPayload, onProviderStreamEvent } = this.#options;
    if (signal?.aborted) return this.#abort();
    const { context: slim, media } = withoutMedia(addon, context);
    this.#media = media;
    const request = JSON.stringify({
      environment: environment(this.#options.env),
      host,
      model: this.#model,
      options: requestOptions(this.#options),
      payloadHook: onPayload !== undefined,
      rawEvents: onProviderStreamEvent !== undefined,
    });
    this.#handle = addon.startTurn(
      request,
      contextText(slim),
      media.map(({ handle }) => handle),
      (ops) => this.#receive(ops),
    );
    signal?.addEventListener("abort", this.#onAbort, { once: true });
  }

  /** Ends the turn with an error of our own. */
  fail(message: string): void {
    if (this.#over) return;
    this.#handle?.cancel();
    this.#message.stopReason = "error";
    this.#message.errorMessage = message;
    this.#end({ type: "error", reason: "error", error: this.#message });
  }

  #onAbort = (): void => {
    this.#handle?.cancel();
    // The addon answers within a few milliseconds and brings the last words along; a hook may hang for ever.
    if (this.#hookRunning) this.#abort();
    else setTimeout(() => this.#abort(), ABORT_GRACE_MS);
  };

  #abort(): void {
    if (this.#over) return;
    this.#message.stopReason = "aborted";
    this.#message.errorMessage = "Request was aborted";
    this.#end({ type: "error", reason: "aborted", error: this.#message });
  }

  #end(event: AssistantMessageEvent): void {
    this.#over = true;
    this.#waiting = [];
    this.#notice.clear();
    this.#options.signal?.removeEventListener("abort", this.#onAbort);
    this.#stream.push(event);
    this.#stream.end();
  }

  #receive(ops: Op[]): void {
    if (this.#over) return;
    this.#waiting.push(...ops);
    if (!this.#hookRunning) this.#drain();
  }

  /** Applies ops in order; pauses where a hook has to finish first. */
  #drain(): void {
    try {
      const ops = this.#waiting;
      for (let at = 0; at < ops.length && !this.#over; at += 1) {
        const hook = this.#apply(ops[at] as Op);
        if (hook !== undefined) {
          this.#waiting = ops.slice(at + 1);
          this.#hookRunning = true;
          hook.then(this.#resume, (error: unknown) => this.fail(errorText(error)));
          return;
        }
      }
      this.#waiting = [];
    } catch (error) {
      this.fail(errorText(error));
    }
  }

  #resume = (): void => {
    this.#hookRunning = false;
    this.#drain();
  };

  /** Applies one op. A promise means: nothing further before it is done. */
  #apply([code, index, text, extra]: Op): Promise<void> | undefined {
    const partial = this.#message;
    if (code !== OpCode.Notice) this.#notice.clear();
    switch (code) {
      case OpCode.Notice:
        this.#notice.show(JSON.parse(text) as Notice);
        break;
      case OpCode.Body:
        return this.#payloadHook(text);
      case OpCode.Response:
        return this.#responseHook(text);
      case OpCode.Raw:
        return Promise.resolve(this.#options.onProviderStreamEvent?.(JSON.parse(text), this.#model));
      case OpCode.Media: {
        const medium = this.#media[index];
        const [from, to] = JSON.parse(text) as [number, number];
        if (medium !== undefined) this.#handle?.sendMedium(index, from, medium.data.slice(from, to));
        break;
      }
      case OpCode.TextStart:
        partial.content[index] = { type: "text", text: "" };
        this.#push({ type: "text_start", contentIndex: index, partial });
        break;
      case OpCode.ThinkingStart: {
        const { signature, redacted } = JSON.parse(text) as { signature: string; redacted?: true };
        partial.content[index] = {
          type: "thinking",
          thinking: "",
          thinkingSignature: signature,
          ...(redacted ? { redacted } : {}),
        };
        this.#push({ type: "thinking_start", contentIndex: index, partial });
        break;
      }
      case OpCode.ToolStart: {
        const { id, name } = JSON.parse(text) as { id: string; name: string };
        const call: ToolCall & LiveCall = { type: "toolCall", id, name, arguments: {} };
        partial.content[index] = call;
        this.#calls.set(index, new LiveArguments(call));
        this.#push({ type: "toolcall_start", contentIndex: index, partial });
        break;
      }
      case OpCode.TextDelta:
        (partial.content[index] as TextContent).text += text;
        this.#push({ type: "text_delta", contentIndex: index, delta: text, partial });
        break;
      case OpCode.ThinkingDelta:
        (partial.content[index] as ThinkingContent).thinking += text;
        this.#push({ type: "thinking_delta", contentIndex: index, delta: text, partial });
        break;
      case OpCode.ToolDelta:
        this.#calls.get(index)?.append(text, extra);
        this.#push({ type: "toolcall_delta", contentIndex: index, delta: text, partial });
        break;
      case OpCode.TextEnd: {
        const content = (partial.content[index] as TextContent).text;
        this.#push({ type: "text_end", contentIndex: index, content, partial });
        break;
      }
      case OpCode.ThinkingEnd: {
        const content = (partial.content[index] as ThinkingContent).thinking;
        this.#push({ type: "thinking_end", contentIndex: index, content, partial });
        break;
      }
      case OpCode.ToolEnd:
        this.#calls.get(index)?.finish(text);
        this.#push({
          type: "toolcall_end",
          contentIndex: index,
          toolCall: partial.content[index] as ToolCall,
          partial,
        });
        break;
      case OpCode.Amend:
        Object.assign(partial.content[index] ?? {}, JSON.parse(text));
        break;
      case OpCode.Done:
        this.#done(JSON.parse(text) as Summary & { reason: "stop" | "length" | "toolUse" });
        break;
      case OpCode.Failed:
        this.#failed(JSON.parse(text) as Summary & { code: string; message: string });
        break;
    }
    return undefined;
  }

  async #payloadHook(text: string): Promise<void> {
    const body: unknown = JSON.parse(text);
    const replaced = await this.#options.onPayload?.(body, this.#model);
    // What the hook returned, or what it did to the object it was given, is exactly what is sent.
    this.#handle?.sendBody(JSON.stringify(replaced ?? body));
  }

  async #responseHook(text: string): Promise<void> {
    const { onResponse } = this.#options;
    if (onResponse)
      await onResponse(JSON.parse(text) as { status: number; headers: Record<string, string> }, this.#model);
    if (this.#started || this.#over) return;
    this.#started = true;
    this.#push({ type: "start", partial: this.#message });
  }

  #done({ reason, ...summary }: Summary & { reason: "stop" | "length" | "toolUse" }): void {
    this.#summarise(summary);
    this.#message.stopReason = reason;
    this.#end({ type: "done", reason, message: this.#message });
  }

  #failed({ code, message, usage, responseId, responseModel }: Summary & { code: string; message: string }): void {
    this.#summarise({
      ...(usage ? { usage } : {}),
      ...(responseId ? { responseId } : {}),
      ...(responseModel ? { responseModel } : {}),
    });
    if (code === "cancelled") this.#abort();
    else this.fail(message);
  }

  #summarise(summary: Summary): void {
    Object.assign(this.#message, summary);
  }

  #push(event: AssistantMessageEvent): void {
    this.#stream.push(event);
  }
}

/** The options that the addon understands. Pi passes others along, which need not even be JSON. */
function requestOptions(options: TurnOptions): object {
  const { apiKey, headers, reasoning, maxTokens, temperature, sessionId, cacheRetention } = options;
  const { timeoutMs, maxRetryDelayMs, toolChoice, samplingParams } = options;
  return {
    ...{ apiKey, headers, reasoning, maxTokens, temperature, sessionId, cacheRetention },
    ...{ timeoutMs, maxRetryDelayMs, toolChoice, samplingParams },
  };
}

function noUsage(): Usage {
  const cost = { input: 0, output: 0, cacheRead: 0, cacheWrite: 0, total: 0 };
  return { input: 0, output: 0, cacheRead: 0, cacheWrite: 0, totalTokens: 0, cost };
}

function errorText(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
