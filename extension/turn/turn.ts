/**
 * One turn: frames of the addon → Pi's events (docs/pi-contract.md#events), with the hooks of whoever asked in their places.
 *
 * `start` comes after `onResponse`, nothing overtakes a hook, and exactly one terminal event leaves, whatever a hook, the addon or
 * the consumer does. What an answer is made of: assistant-message.ts.
 */
import type {
  AssistantMessageEvent,
  AssistantMessageEventStream,
  Model,
  TranscriptContext,
} from "@earendil-works/pi-ai";
import type { Host } from "../environment.ts";
import { type Addon, type Op, OpCode, type TurnHandle } from "../native/addon.ts";
import { LiveMessage, type Summary } from "./assistant-message.ts";
import { contextText } from "./context.ts";
import { extractMedia, type MediaItem } from "./media.ts";
import { type Notice, Notices, type TurnNotice } from "./notices.ts";
import { type TurnOptions, turnRequest } from "./request.ts";

/** How long the addon may take to confirm an abort before the turn ends without it. */
const ABORT_GRACE_MS = 60;

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
    turn.thrown(error);
  }
}

class Turn {
  readonly #stream: AssistantMessageEventStream;
  readonly #model: Model<string>;
  readonly #options: TurnOptions;
  readonly #live: LiveMessage;
  readonly #notice: TurnNotice;
  #handle: TurnHandle | undefined;
  #media: MediaItem[] = [];
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
    this.#live = new LiveMessage(model, (event) => stream.push(event));
  }

  begin(addon: Addon, host: Host, context: TranscriptContext): void {
    const { signal } = this.#options;
    if (signal?.aborted) return this.#abort();
    const { context: slim, media } = extractMedia(addon, context);
    this.#media = media;
    this.#handle = addon.startTurn(
      turnRequest(host, this.#model, this.#options),
      contextText(slim),
      media.map(({ handle }) => handle),
      (ops) => this.#receive(ops),
    );
    signal?.addEventListener("abort", this.#onAbort, { once: true });
  }

  /** Ends the turn with an error that is not the addon's. */
  thrown(error: unknown): void {
    if (this.#over) return;
    this.#options.onThrown?.(error);
    this.#fail(error instanceof Error ? error.message : String(error));
  }

  #fail(errorMessage: string): void {
    if (this.#over) return;
    this.#handle?.cancel();
    const error = Object.assign(this.#live.message, { stopReason: "error" as const, errorMessage });
    this.#end({ type: "error", reason: "error", error });
  }

  #onAbort = (): void => {
    this.#handle?.cancel();
    // The addon answers within a few milliseconds and brings the last words along; a hook may hang for ever.
    if (this.#hookRunning) this.#abort();
    else setTimeout(() => this.#abort(), ABORT_GRACE_MS);
  };

  #abort(): void {
    if (this.#over) return;
    const errorMessage = "Request was aborted";
    const error = Object.assign(this.#live.message, { stopReason: "aborted" as const, errorMessage });
    this.#end({ type: "error", reason: "aborted", error });
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
          hook.then(this.#resume, (error: unknown) => this.thrown(error));
          return;
        }
      }
      this.#waiting = [];
    } catch (error) {
      this.thrown(error);
    }
  }

  #resume = (): void => {
    this.#hookRunning = false;
    this.#drain();
  };

  /** Applies one op. A promise means: nothing further before it is done. */
  #apply(op: Op): Promise<void> | undefined {
    const [code, index, text] = op;
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
        const item = this.#media[index];
        const [from, to] = JSON.parse(text) as [number, number];
        if (item !== undefined) this.#handle?.sendMedium(index, from, item.data.slice(from, to));
        break;
      }
      case OpCode.Done:
        this.#done(JSON.parse(text) as Summary & { reason: "stop" | "length" | "toolUse" });
        break;
      case OpCode.Failed:
        this.#failed(JSON.parse(text) as Summary & { code: string; message: string });
        break;
      default:
        this.#live.apply(op);
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
    this.#stream.push({ type: "start", partial: this.#live.message });
  }

  #done({ reason, ...summary }: Summary & { reason: "stop" | "length" | "toolUse" }): void {
    this.#live.summarise(summary);
    const message = Object.assign(this.#live.message, { stopReason: reason });
    this.#end({ type: "done", reason, message });
  }

  #failed({ code, message, usage, responseId, responseModel }: Summary & { code: string; message: string }): void {
    this.#live.summarise({
      ...(usage ? { usage } : {}),
      ...(responseId ? { responseId } : {}),
      ...(responseModel ? { responseModel } : {}),
    });
    if (code === "cancelled") this.#abort();
    else this.#fail(message);
  }
}
