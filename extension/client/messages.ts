/**
 * What a caller may say to Kimi, and what comes back.
 *
 * Two vocabularies are taken and may be mixed: the OpenAI style that most programs have at hand, and Pi's own transcripts.
 * Answers come in Pi's form, which keeps reasoning and can be put straight back into the list. The types are written out
 * here because a plain Node program has no Pi to import them from.
 */

export interface TextPart {
  type: "text";
  text: string;
}

/** An image as Pi writes it. `data` is base64. */
export interface ImagePart {
  type: "image";
  mimeType: string;
  data: string;
}

/** An image as OpenAI writes it. The URL is a base64 `data:` URL, that of an uploaded file, or one that the service can reach. */
export interface ImageUrlPart {
  type: "image_url";
  image_url: { url: string };
}

/** A video. The URL as for an image. */
export interface VideoUrlPart {
  type: "video_url";
  video_url: { url: string };
}

/** Reasoning of an earlier answer. Keep it: the service wants it back. */
export interface ThinkingPart {
  type: "thinking";
  thinking: string;
  thinkingSignature?: string;
  redacted?: boolean;
}

/** A tool the model wants to be called. */
export interface ToolCall {
  type: "toolCall";
  id: string;
  name: string;
  arguments: Record<string, unknown>;
}

export interface SystemMessage {
  role: "system" | "developer";
  content: string | readonly TextPart[];
}

export interface UserMessage {
  role: "user";
  content: string | readonly (TextPart | ImagePart | ImageUrlPart | VideoUrlPart)[];
}

/** An answer as OpenAI writes it. */
export interface OpenAiAssistantMessage {
  role: "assistant";
  content?: string | readonly TextPart[] | null;
  reasoning_content?: string | null;
  tool_calls?: readonly { id: string; type?: "function"; function: { name: string; arguments: string } }[];
}

/** A tool's result as OpenAI writes it. */
export interface OpenAiToolMessage {
  role: "tool";
  tool_call_id: string;
  content: string | readonly (TextPart | ImageUrlPart | VideoUrlPart)[];
}

/** A tool's result as Pi writes it. */
export interface ToolResultMessage {
  role: "toolResult";
  toolCallId: string;
  content: readonly (TextPart | ImagePart)[];
  toolName?: string;
  isError?: boolean;
}

/** Tokens, and what they would cost at list price in USD. */
export interface Usage {
  input: number;
  output: number;
  cacheRead: number;
  cacheWrite: number;
  totalTokens: number;
  cost: { input: number; output: number; cacheRead: number; cacheWrite: number; total: number };
}

/** An answer, in Pi's form. */
export interface AssistantMessage {
  role: "assistant";
  content: (TextPart | ThinkingPart | ToolCall)[];
  api: string;
  provider: string;
  model: string;
  usage: Usage;
  /** `length`: the output cap was reached. `error` and `aborted` occur on partial answers only. */
  stopReason: "stop" | "length" | "toolUse" | "error" | "aborted";
  /** Milliseconds since the epoch. */
  timestamp: number;
  responseId?: string;
  /** The model that really answered. */
  responseModel?: string;
  errorMessage?: string;
}

/** An earlier answer in Pi's form, as far as it is needed. */
export interface PastAssistantMessage {
  role: "assistant";
  content: readonly (TextPart | ThinkingPart | ToolCall)[];
  provider?: string;
  model?: string;
  stopReason?: string;
}

export type ChatMessage =
  | SystemMessage
  | UserMessage
  | PastAssistantMessage
  | ToolResultMessage
  | OpenAiAssistantMessage
  | OpenAiToolMessage;

/** A tool the model may call. `parameters` is a JSON Schema. */
export interface Tool {
  name: string;
  description?: string;
  parameters?: object;
}

/** The same as OpenAI writes it. */
export interface OpenAiTool {
  type: "function";
  function: Tool;
}
