/**
 * Writes Pi's context as JSON for the addon. Long texts lie beside it: escaping a megabyte takes this thread many times as long as
 * copying it, and the addon has other threads.
 *
 * A tool's parameters may not fit into JSON, for example an object that contains itself. Such parameters are replaced by a
 * sentence about them, and the addon reports the tool, so that the turn goes on.
 */
import { kimiError } from "../errors.ts";
import type { EncodedContext } from "../native/addon.ts";

/** Length from which on a text lies beside the JSON, in UTF-16 units. Shorter ones are cheaper within it. */
const LONG = 200;

let isOneByte: ((text: string) => boolean) | undefined;

interface ContextTool {
  name?: unknown;
  parameters?: unknown;
}

/** Writes a context. Throws an error that names the position of a message that does not fit into JSON. */
export function encodeContext(context: object): EncodedContext {
  const texts = new LongTexts();
  try {
    return texts.encode(JSON.stringify(texts.takenFrom(context as Context)));
  } catch {
    return new LongTexts().encode(readableText(context));
  }
}

interface Context {
  systemPrompt?: unknown;
  messages: readonly Message[];
}

interface Message {
  role?: unknown;
  content?: unknown;
  provider?: unknown;
  stopReason?: unknown;
  usage?: { totalTokens?: unknown } | null;
  toolCallId?: unknown;
  toolName?: unknown;
  isError?: unknown;
  details?: { kimiMedia?: unknown } | null;
}

interface ContextPart {
  type?: unknown;
  text?: unknown;
  thinking?: unknown;
  arguments?: unknown;
}

/** Takes the long texts out of a context, and leaves out what the addon does not read. */
class LongTexts {
  /** No text of the conversation can contain it: it is random, and made after them. */
  readonly #mark = `${crypto.randomUUID().slice(-12)}:`;
  readonly #texts: string[] = [];
  readonly #lengths: number[] = [];

  takenFrom(context: Context): object {
    const { systemPrompt, messages } = context;
    return { ...context, systemPrompt: this.#text(systemPrompt), messages: messages.map(this.#message) };
  }

  /** Most of Pi's own members are numbers and details for its screen, which take long to write. */
  readonly #message = (message: Message): object => {
    if (!isPlain(message)) return message;
    const { role, provider, stopReason, usage, toolCallId, toolName, isError, details } = message;
    const content = this.#content(message.content);
    switch (role) {
      case "user":
        return { role, content };
      case "assistant":
        return {
          role,
          content,
          provider,
          stopReason,
          usage: isPlain(usage) ? { totalTokens: usage.totalTokens } : usage,
        };
      case "toolResult":
        return { role, content, toolCallId, toolName, isError, details: details?.kimiMedia && details };
      default:
        return { ...message, content };
    }
  };

  #content(content: unknown): unknown {
    return Array.isArray(content) ? content.map(this.#part) : this.#text(content);
  }

  readonly #part = (part: ContextPart): object => {
    if (!isPlain(part)) return part;
    if (part.type === "text" && isLong(part.text)) return { type: "text", text: this.#put(part.text) };
    if (isLong(part.thinking)) return { ...part, thinking: this.#put(part.thinking) };
    const { arguments: args } = part;
    if (!isPlain(args) || Array.isArray(args)) return part;
    let light: Record<string, unknown> | undefined;
    for (const [name, value] of Object.entries(args))
      if (isLong(value)) (light ??= { ...args })[name] = this.#put(value);
    return light === undefined ? part : { ...part, arguments: light };
  };

  #text(value: unknown): unknown {
    return isLong(value) ? this.#put(value) : value;
  }

  /** Returns what is written in place of a text. */
  #put(text: string): string {
    this.#lengths.push(isNarrow(text) ? text.length : -text.length);
    return this.#mark + (this.#texts.push(text) - 1);
  }

  /** Adds the JSON, which is the last text. */
  encode(json: string): EncodedContext {
    this.#put(json);
    return { mark: this.#mark, lengths: Int32Array.from(this.#lengths), texts: this.#texts };
  }
}

/** Whether V8 stores a text in one byte per character, which is half to copy. */
function isNarrow(text: string): boolean {
  // Loading it takes half a millisecond, so the first turn does. Node cannot tell before 22.15.
  isOneByte ??= process.getBuiltinModule?.("node:v8").isStringOneByteRepresentation ?? (() => false);
  return isOneByte(text);
}

function isLong(value: unknown): value is string {
  return typeof value === "string" && value.length >= LONG;
}

/** Whether JSON shows the members of a value as they are. */
function isPlain<T>(value: T): value is T & object {
  return typeof value === "object" && value !== null && (value as { toJSON?: unknown }).toJSON === undefined;
}

/** Writes a context of which a part does not fit into JSON. */
function readableText(context: object): string {
  const { tools, messages } = context as { tools?: ContextTool[]; messages: { toolsAdded?: ContextTool[] }[] };
  const readable = {
    ...context,
    ...(tools === undefined ? {} : { tools: tools.map(serializable) }),
    messages: messages.map((message) =>
      Array.isArray(message?.toolsAdded) ? { ...message, toolsAdded: message.toolsAdded.map(serializable) } : message,
    ),
  };
  for (const [position, message] of readable.messages.entries()) {
    const problem = problemOf(message);
    if (problem !== undefined) {
      const message = `message ${position} of the conversation cannot be sent: ${problem}`;
      throw kimiError({ code: "bad_request", message });
    }
  }
  return JSON.stringify(readable);
}

function serializable(tool: ContextTool): ContextTool {
  const problem = problemOf(tool.parameters);
  return problem === undefined ? tool : { ...tool, parameters: `something that JSON cannot hold: ${problem}` };
}

function problemOf(value: unknown): string | undefined {
  try {
    JSON.stringify(value);
    return undefined;
  } catch (error) {
    return (error instanceof Error ? error.message : String(error)).split("\n")[0];
  }
}
