/**
 * Translates OpenAI-style messages to the transcript that the addon reads.
 *
 * Only forms are translated, of messages that input.ts has checked. Whatever the service would refuse is normalized by the addon.
 */
import type { ChatMessage, OpenAiAssistantMessage, OpenAiTool, Tool } from "../messages.ts";

/** A conversation in the form that the addon reads (Pi's `Context`). */
export interface Transcript {
  systemPrompt?: string;
  tools?: Tool[];
  messages: object[];
}

const PROVIDER = "kimi-coding";

/** Translates a conversation for `model`. */
export function transcript(
  messages: readonly ChatMessage[],
  model: string,
  system?: string,
  tools?: readonly (Tool | OpenAiTool)[],
): Transcript {
  return {
    ...(system === undefined ? {} : { systemPrompt: system }),
    ...(tools === undefined ? {} : { tools: tools.map(plainTool) }),
    messages: messages.map((message) => translated(message, model)),
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

function translated(message: ChatMessage, model: string): object {
  switch (message.role) {
    case "tool":
      return { role: "toolResult", toolCallId: message.tool_call_id, content: message.content };
    case "assistant":
      return "tool_calls" in message || "reasoning_content" in message || !Array.isArray(message.content)
        ? answer(message as OpenAiAssistantMessage, model)
        : { provider: PROVIDER, model, ...message };
    default:
      return message;
  }
}

function answer(message: OpenAiAssistantMessage, model: string): object {
  const { content, reasoning_content: reasoning, tool_calls } = message;
  const calls = tool_calls ?? [];
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
        arguments: JSON.parse(json === "" ? "{}" : json) as unknown,
      })),
    ],
  };
}
