/**
 * Messages to and from the model.
 *
 * OpenAI-style messages and Pi's transcripts are accepted and may be mixed. Answers have Pi's form, which keeps reasoning and can be
 * appended to the conversation as it is. The types are declared here because a plain Node program has no Pi to import them from.
 */

export interface TextPart {
  type: "text";
  text: string;
}

/** An image in Pi's form. `data` is base64. */
export interface ImagePart {
  type: "image";
  mimeType: string;
  data: string;
}

/** An image in OpenAI's form. The URL is a base64 `data:` URL or that of an uploaded file. */
export interface ImageUrlPart {
  type: "image_url";
  image_url: { url: string };
}

/** A video. The URL is as for an image. */
export interface VideoUrlPart {
  type: "video_url";
  video_url: { url: string };
}

/** Reasoning of an earlier answer. Keep it in the conversation: the service needs it. */
export interface ThinkingPart {
  type: "thinking";
  thinking: string;
  thinkingSignature?: string;
  redacted?: boolean;
}

/** A tool call of the model. */
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

/** An answer in OpenAI's form. */
export interface OpenAiAssistantMessage {
  role: "assistant";
  content?: string | readonly TextPart[] | null;
  reasoning_content?: string | null;
  tool_calls?: readonly { id: string; type?: "function"; function: { name: string; arguments: string } }[];
}

/** A tool result in OpenAI's form. */
export interface OpenAiToolMessage {
  role: "tool";
  tool_call_id: string;
  content: string | readonly (TextPart | ImageUrlPart | VideoUrlPart)[];
}

/** A tool result in Pi's form. */
export interface ToolResultMessage {
  role: "toolResult";
  toolCallId: string;
  content: readonly (TextPart | ImagePart | ImageUrlPart | VideoUrlPart)[];
  toolName?: string;
  isError?: boolean;
}

/** Token counts, and their cost at list price in USD. */
export interface Usage {
  input: number;
  output: number;
  cacheRead: number;
  cacheWrite: number;
  /** Reasoning tokens, a part of `output`; only if the service reports them. */
  reasoning?: number;
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
  /** `length`: the output limit was reached. `error` and `aborted` occur in partial answers only. */
  stopReason: "stop" | "length" | "toolUse" | "error" | "aborted";
  /** Milliseconds since the epoch. */
  timestamp: number;
  /** Why the answer ended, in the service's own word. */
  rawStopReason?: string;
  responseId?: string;
  /** The model that answered, as the service reports it. */
  responseModel?: string;
  errorMessage?: string;
}

/** An earlier answer in Pi's form; only the members that are read. */
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

/** A tool in OpenAI's form. */
export interface OpenAiTool {
  type: "function";
  function: Tool;
}

/** What the service's prompt cache did for a session. Times are milliseconds since 1970. */
export interface PromptCacheReport {
  /** The last requests, the oldest first. */
  requests: {
    at: number;
    /** null where it is not known any more. */
    model: string | null;
    /** Tokens of the prompt, and those from the cache; null where the service did not say it. */
    prompt: number | null;
    cached: number | null;
    /** Tokens that were expected from the cache. */
    predicted: number;
    /** `evicted` is a guess: nothing changed here, so the service has probably dropped the prompt. */
    verdict: "grew" | "changed" | "shortened" | "idle" | "model" | "evicted" | "unknown";
    /** Where the prompt began to differ: `system`, `tool 3`, `message 12 part 1`. */
    segment: string | null;
    /** Bytes of that segment that were the same, rounded down. */
    offset: number | null;
    /** The likely cause, for users. */
    cause: string | null;
  }[];
  /** The newest prompt, from its beginning. */
  segments: {
    kind: "system" | "tool" | "message" | "media";
    /** Number of the tool or message, from 0. */
    index: number;
    /** Name of a tool, role of a message. */
    name: string | null;
    /** Estimated where the service did not count them. */
    tokens: number;
    /** Whether the newest request read all of it from the cache. */
    cached: boolean;
    /** Since when it has been there unchanged. */
    since: number | null;
  }[];
}
