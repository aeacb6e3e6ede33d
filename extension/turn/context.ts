/**
 * Writes Pi's context as JSON for the addon. Long texts lie beside it: escaping a megabyte takes this thread several times as long as
 * copying it, and the addon has other threads.
 *
 * A tool's parameters may not fit into JSON, for example an object that contains itself. Such parameters are replaced by a
 * sentence about them, and the addon reports the tool, so that the turn goes on.
 */
import { kimiError } from "../errors.ts";
import type { ContextText } from "../native/addon.ts";

/** Length from which on a text lies beside the JSON, in UTF-16 units. Shorter ones are cheaper within it. */
const LONG = 200;

interface Tool {
  name?: unknown;
  parameters?: unknown;
}

/** Writes a context. Throws an error that names the position of a message that does not fit into JSON. */
export function contextText(context: object): ContextText {
  const texts = new LongTexts();
  try {
    return { text: JSON.stringify(texts.takenFrom(context as Context)), mark: texts.mark, pieces: texts.pieces };
  } catch {
    return { text: readableText(context), mark: texts.mark, pieces: [] };
  }
}

/** The members of a context that may be long. */
interface Context {
  systemPrompt?: unknown;
  messages: readonly Message[];
}

interface Message {
  content?: unknown;
  usage?: unknown;
}

interface Part {
  text?: unknown;
  thinking?: unknown;
  arguments?: unknown;
}

/** Takes the long texts out of a context. What has none is not copied. */
class LongTexts {
  /** No text of the conversation can contain it: it is random, and made after them. */
  readonly mark = crypto.randomUUID().slice(-12);
  readonly pieces: string[] = [];

  takenFrom(context: Context): object {
    const messages = context.messages.map((message) => this.#message(message));
    return { ...context, ...this.#members(context, "systemPrompt"), messages };
  }

  #message(message: Message): object {
    if (!isPlain(message)) return message;
    const { content, usage } = message;
    const light: Message = Array.isArray(content)
      ? { ...message, content: content.map((part: unknown) => (isPlain(part) ? this.#part(part) : part)) }
      : { ...message, ...this.#members(message, "content") };
    // All that the addon reads of it. The rest are fractions of cents, which take long to write.
    if (isPlain(usage)) light.usage = { totalTokens: (usage as { totalTokens?: unknown }).totalTokens };
    return light;
  }

  #part(part: Part): object {
    if (isLong(part.text)) return { ...part, text: this.#put(part.text) };
    if (isLong(part.thinking)) return { ...part, thinking: this.#put(part.thinking) };
    const { arguments: args } = part;
    if (!isPlain(args) || Array.isArray(args)) return part;
    const long = this.#members(args, ...Object.keys(args));
    return long === undefined ? part : { ...part, arguments: { ...args, ...long } };
  }

  /** Returns the long ones of some members, with what is written in place of them. */
  #members(object: object, ...names: string[]): Record<string, string> | undefined {
    let long: Record<string, string> | undefined;
    for (const name of names) {
      const value = (object as Record<string, unknown>)[name];
      if (isLong(value)) (long ??= {})[name] = this.#put(value);
    }
    return long;
  }

  #put(text: string): string {
    return `${this.mark}:${this.pieces.push(text) - 1}`;
  }
}

function isLong(value: unknown): value is string {
  return typeof value === "string" && value.length >= LONG;
}

/** Whether JSON shows the members of a value as they are. */
function isPlain(value: unknown): value is object {
  return typeof value === "object" && value !== null && (value as { toJSON?: unknown }).toJSON === undefined;
}

/** Writes a context of which a part does not fit into JSON. */
function readableText(context: object): string {
  const { tools, messages } = context as { tools?: Tool[]; messages: { toolsAdded?: Tool[] }[] };
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

function serializable(tool: Tool): Tool {
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
