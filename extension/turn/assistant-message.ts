/**
 * Builds the message of a turn: content ops of the addon change its blocks in place and emit Pi's events
 * (docs/pi-contract.md#events).
 */
import type {
  AssistantMessage,
  AssistantMessageEvent,
  Model,
  TextContent,
  ThinkingContent,
  ToolCall,
  Usage,
} from "@earendil-works/pi-ai";
import { type Op, OpCode } from "../native/addon.ts";
import { emptyMessage } from "./empty-message.ts";
import { LiveArguments, type LiveCall } from "./tool-arguments.ts";

/** Members of a terminal op about the whole answer. */
export interface Summary {
  usage?: Usage;
  responseId?: string;
  responseModel?: string;
  rawStopReason?: string;
}

/** The message, which Pi sees while it grows. */
export class LiveMessage {
  readonly message: AssistantMessage;
  readonly #push: (event: AssistantMessageEvent) => void;
  readonly #calls = new Map<number, LiveArguments>();

  constructor(model: Model<string>, push: (event: AssistantMessageEvent) => void) {
    this.message = emptyMessage(model);
    this.#push = push;
  }

  /** Applies a content op. Other ops are ignored. */
  apply([code, index, text, extra]: Op): void {
    const partial = this.message;
    const push = this.#push;
    switch (code) {
      case OpCode.TextStart:
        partial.content[index] = { type: "text", text: "" };
        push({ type: "text_start", contentIndex: index, partial });
        break;
      case OpCode.ThinkingStart: {
        const { signature, redacted } = JSON.parse(text) as { signature: string; redacted?: true };
        partial.content[index] = {
          type: "thinking",
          thinking: "",
          thinkingSignature: signature,
          ...(redacted ? { redacted } : {}),
        };
        push({ type: "thinking_start", contentIndex: index, partial });
        break;
      }
      case OpCode.ToolStart: {
        const { id, name } = JSON.parse(text) as { id: string; name: string };
        const call: ToolCall & LiveCall = { type: "toolCall", id, name, arguments: {} };
        partial.content[index] = call;
        this.#calls.set(index, new LiveArguments(call));
        push({ type: "toolcall_start", contentIndex: index, partial });
        break;
      }
      case OpCode.TextDelta:
        (partial.content[index] as TextContent).text += text;
        push({ type: "text_delta", contentIndex: index, delta: text, partial });
        break;
      case OpCode.ThinkingDelta:
        (partial.content[index] as ThinkingContent).thinking += text;
        push({ type: "thinking_delta", contentIndex: index, delta: text, partial });
        break;
      case OpCode.ToolDelta:
        this.#calls.get(index)?.append(text, extra);
        push({ type: "toolcall_delta", contentIndex: index, delta: text, partial });
        break;
      case OpCode.TextEnd: {
        const content = (partial.content[index] as TextContent).text;
        push({ type: "text_end", contentIndex: index, content, partial });
        break;
      }
      case OpCode.ThinkingEnd: {
        const content = (partial.content[index] as ThinkingContent).thinking;
        push({ type: "thinking_end", contentIndex: index, content, partial });
        break;
      }
      case OpCode.ToolEnd:
        this.#calls.get(index)?.finish(text);
        push({
          type: "toolcall_end",
          contentIndex: index,
          toolCall: partial.content[index] as ToolCall,
          partial,
        });
        break;
      case OpCode.Amend:
        Object.assign(partial.content[index] ?? {}, JSON.parse(text));
        break;
    }
  }

  /** Adds the members that arrive at the end. */
  summarize(summary: Summary): void {
    Object.assign(this.message, summary);
  }
}
