/**
 * Translates OpenAI-style messages to the transcript that the addon reads.
 *
 * Only forms are translated. Whatever the service would refuse is normalized by the addon.
 */
import { kimiError } from "../errors.ts";
import type { ChatMessage, OpenAiAssistantMessage, OpenAiTool, Tool } from "../messages.ts";

/** A conversation in the form that the addon reads (Pi's `Context`). */
export interface Transcript {
  systemPrompt?: string;
  tools?: Tool[];
  messages: object[];
}

const PROVIDER = "kimi-coding";

/** Translates a conversation for `model`. Throws a `bad_request` or `bad_media` error that names the message. */
export function transcript(
  messages: readonly ChatMessage[],
  model: string,
  system?: string,
  tools?: readonly (Tool | OpenAiTool)[],
): Transcript {
  return {
    ...(system === undefined ? {} : { systemPrompt: system }),
    ...(tools === undefined ? {} : { tools: tools.map(plainTool) }),
    messages: messages.map((message, position) => translated(message, position, model)),
  };
}

function plainTool(tool: Tool | OpenAiTool): Tool {
  const {
    name,
    description = "",
    parameters = { type: "object", properties: {} },
  } = "function" in tool ? tool.function : tool;
  return { name, description, parameters };
}

function translated(message: ChatMessage, position: number, model: string): object {
  switch (message.role) {
    case "developer":
      return { ...message, role: "system" };
    case "user":
      return { ...message, content: parts(message.content, position) };
    case "tool":
      return { role: "toolResult", toolCallId: message.tool_call_id, content: parts(message.content, position) };
    case "assistant":
      return Array.isArray(message.content) && !("tool_calls" in message) && !("reasoning_content" in message)
        ? { provider: PROVIDER, model, ...message }
        : answer(message as OpenAiAssistantMessage, position, model);
    default:
      return message;
  }
}

function answer(message: OpenAiAssistantMessage, position: number, model: string): object {
  const { content, reasoning_content: reasoning, tool_calls: calls = [] } = message;
  const text = typeof content === "string" ? [{ type: "text", text: content }] : (content ?? []);
  const thinking = { type: "thinking", thinking: reasoning, thinkingSignature: "reasoning_content" };
  return {
    role: "assistant",
    provider: PROVIDER,
    model,
    stopReason: calls.length > 0 ? "toolUse" : "stop",
    content: [
      ...(typeof reasoning === "string" ? [thinking] : []),
      ...text,
      ...calls.map(({ id, function: { name, arguments: json } }) => ({
        type: "toolCall",
        id,
        name,
        arguments: callArguments(json, `message ${position}: the arguments of tool call ${id}`),
      })),
    ],
  };
}

function callArguments(json: string, what: string): unknown {
  try {
    return JSON.parse(json === "" ? "{}" : json);
  } catch (cause) {
    throw kimiError({ code: "bad_request", message: `${what} are not JSON` }, { cause });
  }
}

function parts(content: unknown, position: number): object[] {
  if (!Array.isArray(content)) return [{ type: "text", text: String(content ?? "") }];
  return (content as object[]).map((part) => {
    const { type } = part as { type?: unknown };
    return type === "image_url" || type === "video_url" ? linked(part, type, position) : part;
  });
}

/** Base64, an uploaded file, or a web address. Matches the beginning only, because the rest may be megabytes. */
const ADDRESS = /^(?:(data:)[^,]{0,1000};base64,|ms:\/\/|https?:\/\/)/i;

function linked(part: object, type: "image_url" | "video_url", position: number): object {
  const source = (part as Record<string, unknown>)[type];
  const url = typeof source === "object" && source !== null ? (source as { url?: unknown }).url : source;
  const match = typeof url === "string" ? ADDRESS.exec(url) : null;
  if (match === null) {
    const what = type === "image_url" ? "an image" : "a video";
    const message = `message ${position}: ${what} must be a base64 data: URL, an uploaded file or a web address`;
    throw kimiError({ code: "bad_media", message });
  }
  // The addon expects the scheme in lower case.
  return match[1] === undefined || match[1] === "data:"
    ? part
    : { ...part, [type]: `data:${(url as string).slice(5)}` };
}
