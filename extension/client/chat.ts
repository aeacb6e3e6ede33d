/**
 * One running request: iterate over its events, or await the whole message.
 *
 * Runs the same turn as Pi (turn/turn.ts). It also reads the addon's failures and notices, because Pi's events carry an error as text
 * only, without code, status and waiting time.
 */
import type {
  AssistantMessageEvent,
  AssistantMessageEventStream,
  Model,
  TranscriptContext,
} from "@earendil-works/pi-ai";
import type { Host } from "../environment.ts";
import { type Failure, KimiError, kimiError } from "../errors.ts";
import { type Addon, type Op, OpCode } from "../native/addon.ts";
import type { Notice } from "../turn/notices.ts";
import type { TurnOptions } from "../turn/request.ts";
import { runTurn, type TurnControl } from "../turn/turn.ts";
import type { Transcript } from "./conversation.ts";
import { schemaProblem } from "./json-schema.ts";
import type { AssistantMessage, PromptCacheReport, ToolCall } from "../messages.ts";

/** Progress while no output arrives, and changes made to the request. */
export type ChatNotice =
  /** A request failed before any output. Request number `attempt`, of at most `attempts`, follows after `delayMs`. */
  | { type: "retry"; attempt: number; attempts: number; delayMs: number; code: Failure["code"]; message: string }
  /** The plan allows no more requests at once; `ahead` requests go first. null: the request is sent now. */
  | { type: "slot"; ahead: number | null }
  /** Nothing has arrived for `sinceMs`. The request fails after `limitMs`; null: never. */
  | { type: "quiet"; sinceMs: number; limitMs: number | null }
  /** Images or videos are being uploaded; reported once a second. `left` counts unfinished files. */
  | { type: "upload"; files: number; left: number; bytes: number; sent: number; message: string }
  /**
   * The request was changed to make it acceptable, or a setting is invalid; or, with `cache`, much of the prompt was read again
   * although it need not have been (docs/caching.md).
   */
  | { type: "note"; message: string; cache?: PromptCacheReport }
  /** The quota window `5h`, `7d` … is used up, and the chat waits until it opens at `resetsAt` (milliseconds since 1970). */
  | { type: "parked"; window: string; resetsAt: number }
  /** The window is open, and the chat continues. */
  | { type: "resumed" };

/** Returns the event for a notice of the addon; `undefined` for one that only a screen shows. */
function chatNotice(text: string): ChatNotice | undefined {
  const { kind, ...notice } = JSON.parse(text) as Notice;
  switch (kind) {
    case "parked": {
      const { window, resetsAt } = notice as { window: string; resetsAt: number };
      return { type: "parked", window, resetsAt };
    }
    case "retry":
    case "slot":
    case "quiet":
    case "upload":
    case "note":
    case "resumed":
      return { type: kind, ...notice } as ChatNotice;
    default:
      return undefined;
  }
}

interface Head {
  status: number;
  headers: Record<string, string>;
}

interface BlockEvent {
  /** Position in the message's content. */
  contentIndex: number;
  /** The message so far: one object, updated in place. */
  partial: AssistantMessage;
}

/** Events of a chat. Deltas are merged to about thirty a second. */
export type ChatEvent =
  | { type: "start"; partial: AssistantMessage }
  | ({ type: "text_start" | "thinking_start" | "toolcall_start" } & BlockEvent)
  | ({ type: "text_delta" | "thinking_delta" | "toolcall_delta"; delta: string } & BlockEvent)
  | ({ type: "text_end" | "thinking_end"; content: string } & BlockEvent)
  | ({ type: "toolcall_end"; toolCall: ToolCall } & BlockEvent)
  | ChatNotice
  | { type: "done"; reason: "stop" | "length" | "toolUse"; message: AssistantMessage };

/** What a chat needs beside its request. */
interface ChatSetup {
  addon: Addon;
  host: Host;
  model: object;
  conversation: Transcript;
  options: Options;
  /** What the caller should know about the request beforehand. */
  notes: readonly string[];
  /** Schema of the answer. */
  schema?: object | undefined;
  log?: ((event: ChatLog) => void) | undefined;
}

/** Steps of a chat, for a logger. */
export type ChatLog =
  | { type: "response"; status: number; headers: Record<string, string> }
  | { type: "notice"; notice: ChatNotice }
  | { type: "end"; message: AssistantMessage }
  | { type: "error"; error: KimiError };

/** Options of turn/turn.ts. Declared loosely, because published types must not refer to Pi. */
interface Options {
  signal?: AbortSignal;
  [option: string]: unknown;
}

/** Characters of unread events at which a consumer counts as too slow, and the answer is not read on until it has caught up. */
const MAX_UNREAD = 1 << 20;

/**
 * A running request. It runs from the start, with or without a consumer. Once its events are iterated, a consumer that stops
 * reading stops the connection too, unless the whole message is awaited.
 */
export class Chat implements AsyncIterable<ChatEvent> {
  readonly #stop = new AbortController();
  readonly #final: Promise<AssistantMessage>;
  #turn: TurnControl | undefined;
  #events: ChatEvent[] = [];
  /** Characters in the deltas of `#events`. */
  #unread = 0;
  /** The message is awaited, which arrives only if reading goes on. */
  #awaited = false;
  #wake = (): void => {};
  #over = false;
  #taken = false;
  readonly #schema: object | undefined;
  readonly #log: ChatSetup["log"];

  /** @internal Created by `kimi.chat()`. */
  constructor({ addon, host, model, conversation, options, notes, schema, log }: ChatSetup) {
    const { signal } = options;
    this.#schema = schema;
    this.#log = log;
    for (const message of notes) this.#tell({ type: "note", message });
    let failure: Failure | undefined;
    let thrown: { cause?: unknown } = {};
    const startTurn: Addon["startTurn"] = (request, context, media, onOps) =>
      addon.startTurn(request, context, media, (ops: Op[]) => {
        for (const [code, , text] of ops) {
          if (code === OpCode.Failed) failure = JSON.parse(text) as Failure;
          if (code === OpCode.Notice) this.#notice(text);
          if (code === OpCode.Response) log?.({ type: "response", ...(JSON.parse(text) as Head) });
        }
        onOps(ops);
      });
    // Inherits the rest: a copy of the addon's fifty functions takes five kilobytes per chat.
    const listening = Object.assign(Object.create(addon) as Addon, { startTurn });
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
        } else if (thrown.cause instanceof KimiError) reject(thrown.cause);
        else reject(kimiError({ ...(failure ?? { code: "internal" }), message }, { partial, ...thrown }));
      };
      const end = (): void => {
        this.#over = true;
        this.#wake();
      };
      this.#turn = runTurn(
        listening,
        host,
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
    // Iterating and awaiting report the failure; unobserved, it must not end the process.
    this.#final.then(
      (message) => log?.({ type: "end", message }),
      (error: KimiError) => log?.({ type: "error", error }),
    );
  }

  /** Waits for the whole message. Rejects with a `KimiError`. */
  final(): Promise<AssistantMessage> {
    this.#awaited = true;
    this.#updatePause();
    return this.#final;
  }

  /** Waits for the visible text of the whole message. Rejects with a `KimiError`. */
  async text(): Promise<string> {
    const { content } = await this.final();
    return content.map((part) => (part.type === "text" ? part.text : "")).join("");
  }

  /**
   * Waits for the answer and reads it as JSON. Rejects with a `KimiError`, with code `invalid_object` if it is no JSON or does not
   * follow the schema of `responseFormat`; `partial` then has the text.
   */
  async object<T = unknown>(): Promise<T> {
    const partial = await this.final();
    const text = (await this.text()).trim();
    // Models put JSON into a code block if they see it as a document.
    const [, json = text] = /^```(?:json)?\s*\n([\s\S]*?)\n?```$/.exec(text) ?? [];
    let value: unknown;
    try {
      value = JSON.parse(json);
    } catch (cause) {
      throw kimiError({ code: "invalid_object", message: "the answer is not JSON" }, { partial, cause });
    }
    const problem = this.#schema === undefined ? undefined : schemaProblem(value, this.#schema);
    if (problem === undefined) return value as T;
    throw kimiError(
      { code: "invalid_object", message: `the answer does not follow the schema: ${problem}` },
      { partial },
    );
  }

  /** Aborts. The message rejects with a `KimiAbortError` that holds what has arrived. */
  abort(): void {
    this.#stop.abort();
  }

  /** Iterates over the events, once. Throws a `KimiError` if the request fails; leaving the loop early aborts it. */
  async *[Symbol.asyncIterator](): AsyncGenerator<ChatEvent, void, undefined> {
    if (this.#taken) throw new TypeError("the events of a chat can be iterated only once");
    this.#taken = true;
    try {
      for (;;) {
        const batch = this.#events;
        this.#events = [];
        yield* batch;
        this.#unread = 0;
        for (const event of this.#events) this.#unread += size(event);
        this.#updatePause();
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
    const event = chatNotice(text);
    if (event !== undefined) this.#tell(event);
  }

  #tell(notice: ChatNotice): void {
    this.#log?.({ type: "notice", notice });
    this.#push(notice);
  }

  #push(event: ChatEvent): void {
    this.#events.push(event);
    this.#unread += size(event);
    this.#updatePause();
    this.#wake();
  }

  #updatePause(): void {
    this.#turn?.pause(this.#taken && !this.#awaited && this.#unread > MAX_UNREAD);
  }
}

/** Characters that an unread event keeps in memory. */
function size(event: ChatEvent): number {
  return "delta" in event ? event.delta.length : 0;
}
