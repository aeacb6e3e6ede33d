/**
 * Runs one turn: turns the ops of the addon into Pi's events (docs/pi-contract.md#events) and calls the caller's hooks.
 *
 * `start` follows `onResponse`, ops wait for a running hook, and exactly one terminal event is emitted, whatever a hook or the
 * addon does. assistant-message.ts builds the message.
 */
import type {
  AssistantMessageEvent,
  AssistantMessageEventStream,
  Model,
  TranscriptContext,
} from "@earendil-works/pi-ai";
import type { Host } from "../environment.ts";
import { type Addon, type Op, OpCode, type TurnHandle } from "../native/addon.ts";
import { withAbort } from "../native/call.ts";
import { LiveMessage, type Summary } from "./assistant-message.ts";
import { encodeContext } from "./context.ts";
import { extractMedia, type MediaItem } from "./media.ts";
import { type Notice, Notices, type TurnNotice } from "./notices.ts";
import { type TurnOptions, turnRequest } from "./request.ts";

/** Time that the addon has to confirm an abort, in milliseconds; then the turn ends without it. */
const ABORT_GRACE_MS = 60;

/** Control over a running turn. */
export interface TurnControl {
  /** Stops and resumes reading. What has been read waits in the addon. */
  pause(paused: boolean): void;
}

/** Runs one turn, whose events go to `stream`. */
export function runTurn(
  addon: Addon,
  host: Host,
  stream: AssistantMessageEventStream,
  model: Model<string>,
  context: TranscriptContext,
  options: TurnOptions = {},
  notices: Notices = new Notices(),
): TurnControl {
  const turn = new Turn(stream, model, { ...options, canAsk: notices.canAsk }, notices.open());
  try {
    turn.begin(addon, host, context);
  } catch (error) {
    turn.thrown(error);
  }
  return turn;
}

class Turn implements TurnControl {
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
  #pausedByConsumer = false;
  #started = false;
  #over = false;
  #ended = (): void => {};
  /** Closes the turn's dialogs when it ends. */
  readonly #dialogs = new AbortController();

  constructor(stream: AssistantMessageEventStream, model: Model<string>, options: TurnOptions, notice: TurnNotice) {
    this.#stream = stream;
    this.#notice = notice;
    this.#model = model;
    this.#options = options;
    this.#live = new LiveMessage(model, (event) => stream.push(event));
  }

  begin(addon: Addon, host: Host, context: TranscriptContext): void {
    if (this.#options.signal?.aborted) return this.#abort();
    const { context: slim, media } = extractMedia(addon, context);
    this.#media = media;
    this.#handle = addon.startTurn(
      turnRequest(host, this.#model, this.#options),
      encodeContext(slim),
      media.map(({ handle }) => handle),
      (ops) => this.#receive(ops),
    );
    const ended = new Promise<void>((resolve) => (this.#ended = resolve));
    void withAbort(
      this.#options.signal,
      () => this.#cancel(),
      () => ended,
    );
  }

  pause(paused: boolean): void {
    if (paused === this.#pausedByConsumer) return;
    this.#pausedByConsumer = paused;
    this.#updatePause();
  }

  #updatePause(): void {
    this.#handle?.pause(this.#hookRunning || this.#pausedByConsumer);
  }

  /** Ends the turn with an exception of JavaScript. */
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

  #cancel(): void {
    this.#handle?.cancel();
    // The addon answers within milliseconds and delivers the last text; a hook may never return.
    if (this.#hookRunning) this.#abort();
    else setTimeout(() => this.#abort(), ABORT_GRACE_MS);
  }

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
    this.#dialogs.abort();
    this.#ended();
    this.#stream.push(event);
    this.#stream.end();
  }

  #receive(ops: Op[]): void {
    if (this.#over) return;
    this.#waiting.push(...ops);
    if (!this.#hookRunning) this.#drain();
  }

  /** Applies ops in order, up to the first one that starts a hook. */
  #drain(): void {
    try {
      const ops = this.#waiting;
      for (let at = 0; at < ops.length && !this.#over; at += 1) {
        const hook = this.#apply(ops[at] as Op);
        if (hook !== undefined) {
          this.#waiting = ops.slice(at + 1);
          this.#hookRunning = true;
          this.#updatePause();
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
    if (!this.#hookRunning) this.#updatePause();
  };

  /** Applies one op. The next one waits for the returned promise. */
  #apply(op: Op): Promise<void> | undefined {
    const [code, index, text] = op;
    if (code !== OpCode.Notice) this.#notice.clear();
    switch (code) {
      case OpCode.Notice:
        this.#show(JSON.parse(text) as Notice);
        break;
      case OpCode.Body:
        return this.#payloadHook(text);
      case OpCode.Response:
        return this.#responseHook(text);
      case OpCode.Raw:
        return this.#eventHook(text);
      case OpCode.Media: {
        const item = this.#media[index];
        const [from, to] = JSON.parse(text) as [number, number];
        if (item !== undefined) this.#handle?.sendMedia(index, from, item.data.slice(from, to));
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

  #show(notice: Notice): void {
    if (notice.kind !== "quotaQuestion") return this.#notice.show(notice);
    void this.#notice.ask(notice, this.#dialogs.signal).then((answer) => this.#handle?.sendAnswer(answer));
  }

  async #payloadHook(text: string): Promise<void> {
    const body: unknown = JSON.parse(text);
    const replaced = await this.#options.onPayload?.(body, this.#model);
    // A hook returns a new body or changes the one it was given.
    this.#handle?.sendBody(JSON.stringify(replaced ?? body));
  }

  async #eventHook(text: string): Promise<void> {
    for (const event of text.split("\u001e")) {
      let parsed: unknown;
      try {
        parsed = JSON.parse(event);
      } catch {
        // The addon reports what it cannot read.
        continue;
      }
      await this.#options.onProviderStreamEvent?.(parsed, this.#model);
    }
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
    this.#live.summarize(summary);
    const message = Object.assign(this.#live.message, { stopReason: reason });
    this.#end({ type: "done", reason, message });
  }

  #failed({ code, message, usage, responseId, responseModel }: Summary & { code: string; message: string }): void {
    this.#live.summarize({
      ...(usage ? { usage } : {}),
      ...(responseId ? { responseId } : {}),
      ...(responseModel ? { responseModel } : {}),
    });
    if (code === "cancelled") this.#abort();
    else this.#fail(message);
  }
}
