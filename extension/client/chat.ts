/**
 * One answer on its way: iterate over its events, or wait for the whole message.
 *
 * Runs the same turn that Pi runs (turn/turn.ts) and listens in on what the addon says besides, because Pi's events carry an error
 * as a text only, while a program wants its code, status and waiting time.
 */
import type {
  AssistantMessageEvent,
  AssistantMessageEventStream,
  Model,
  TranscriptContext,
} from "@earendil-works/pi-ai";
import { host } from "../environment.ts";
import { type Addon, type Op, OpCode } from "../native/addon.ts";
import type { TurnOptions } from "../turn/request.ts";
import { runTurn } from "../turn/turn.ts";
import type { Transcript } from "./conversation.ts";
import { type Failure, kimiError } from "./errors.ts";
import type { AssistantMessage, ToolCall } from "./messages.ts";

/** Why nothing comes at the moment, or what was changed to make the request possible. */
export type ChatNotice =
  /** The attempt failed and is repeated, because nothing visible had arrived yet. */
  | { type: "retry"; attempt: number; attempts: number; delayMs: number; code: Failure["code"]; message: string }
  /** The service has been silent. `limitMs` is when we give up, null for never. */
  | { type: "quiet"; sinceMs: number; limitMs: number | null }
  /** Images or videos are being uploaded, once a second: so many files, `left` of them not done, in bytes. */
  | { type: "upload"; files: number; left: number; bytes: number; sent: number; message: string }
  | { type: "note"; message: string };

interface At {
  /** Position in the message's content. */
  contentIndex: number;
  /** The message as far as it has arrived: one live object, changed in place. */
  partial: AssistantMessage;
}

/** What happens on the way to an answer. Deltas come at most about thirty times a second. */
export type ChatEvent =
  | { type: "start"; partial: AssistantMessage }
  | ({ type: "text_start" | "thinking_start" | "toolcall_start" } & At)
  | ({ type: "text_delta" | "thinking_delta" | "toolcall_delta"; delta: string } & At)
  | ({ type: "text_end" | "thinking_end"; content: string } & At)
  | ({ type: "toolcall_end"; toolCall: ToolCall } & At)
  | ChatNotice
  | { type: "done"; reason: "stop" | "length" | "toolUse"; message: AssistantMessage };

/** Options of turn/turn.ts, of which only the signal matters here. Written this way because our types must read without Pi. */
interface Options {
  signal?: AbortSignal;
  [option: string]: unknown;
}

/** An answer on its way. It runs from the start, whether or not anybody listens. */
export class Chat implements AsyncIterable<ChatEvent> {
  readonly #stop = new AbortController();
  readonly #final: Promise<AssistantMessage>;
  #events: ChatEvent[] = [];
  #wake = (): void => {};
  #over = false;
  #taken = false;

  /** @internal Made by `kimi.chat()`. */
  constructor(addon: Addon, model: object, conversation: Transcript, options: Options) {
    const { signal } = options;
    let failure: Failure | undefined;
    let thrown: { cause?: unknown } = {};
    const listening: Addon = {
      ...addon,
      startTurn: (request, context, media, onOps) =>
        addon.startTurn(request, context, media, (ops: Op[]) => {
          for (const [code, , text] of ops) {
            if (code === OpCode.Failed) failure = JSON.parse(text) as Failure;
            if (code === OpCode.Notice) this.#notice(text);
          }
          onOps(ops);
        }),
    };
    this.#final = new Promise((resolve, reject) => {
      const push = (event: AssistantMessageEvent): void => {
        if (event.type !== "error") {
          if (event.type === "done") resolve(event.message as AssistantMessage);
          this.#push(event as ChatEvent);
          return;
        }
        const partial = event.error as AssistantMessage;
        const message = partial.errorMessage ?? "the turn failed";
        if (event.reason === "aborted") {
          reject(kimiError({ code: "cancelled", message }, { partial, cause: signal?.reason }));
        } else reject(kimiError({ ...(failure ?? { code: "internal" }), message }, { partial, ...thrown }));
      };
      const end = (): void => {
        this.#over = true;
        this.#wake();
      };
      runTurn(
        listening,
        host(undefined),
        { push, end } as AssistantMessageEventStream,
        model as Model<string>,
        conversation as unknown as TranscriptContext,
        {
          ...options,
          signal: signal ? AbortSignal.any([signal, this.#stop.signal]) : this.#stop.signal,
          onThrown: (cause) => (thrown = { cause }),
        } as TurnOptions,
      );
    });
    // Whoever iterates or asks for the message hears of a failure; without a listener it must not end the process.
    this.#final.catch(() => {});
  }

  /** The whole message. Rejects with a `KimiError`. */
  final(): Promise<AssistantMessage> {
    return this.#final;
  }

  /** The visible text of the whole message. Rejects with a `KimiError`. */
  async text(): Promise<string> {
    const { content } = await this.#final;
    return content.map((part) => (part.type === "text" ? part.text : "")).join("");
  }

  /** Stops; the message rejects with a `KimiAbortError` that holds what had arrived. */
  abort(): void {
    this.#stop.abort();
  }

  /** The events, once. Throws a `KimiError` where the answer fails; leaving the loop early aborts. */
  async *[Symbol.asyncIterator](): AsyncGenerator<ChatEvent, void, undefined> {
    if (this.#taken) throw new TypeError("the events of a chat can be iterated only once");
    this.#taken = true;
    try {
      for (;;) {
        const batch = this.#events;
        this.#events = [];
        yield* batch;
        if (this.#events.length > 0) continue;
        if (this.#over) break;
        await new Promise<void>((resolve) => (this.#wake = resolve));
      }
      await this.#final;
    } finally {
      if (!this.#over) this.abort();
    }
  }

  #notice(text: string): void {
    const { kind, ...notice } = JSON.parse(text) as { kind: ChatNotice["type"] };
    this.#push({ type: kind, ...notice } as ChatNotice);
  }

  #push(event: ChatEvent): void {
    this.#events.push(event);
    this.#wake();
  }
}
