/**
 * A provider for the AI SDK (`ai` 7): `kimi("kimi-for-coding")`.
 *
 * Retries are the client's alone: what it gave up on is reported as not retryable, so that two layers never multiply.
 */
import {
  APICallError,
  type JSONObject,
  type LanguageModelV4,
  type LanguageModelV4CallOptions,
  type LanguageModelV4Content,
  type LanguageModelV4FinishReason,
  type LanguageModelV4GenerateResult,
  type LanguageModelV4Message,
  type LanguageModelV4StreamPart,
  type LanguageModelV4StreamResult,
  type LanguageModelV4ToolResultPart,
  type LanguageModelV4Usage,
  NoSuchModelError,
  type SharedV4FileData,
  type SharedV4Warning,
  UnsupportedFunctionalityError,
} from "@ai-sdk/provider";
import {
  type AssistantMessage,
  type Chat,
  type ChatEvent,
  type ChatMessage,
  type ChatRequest,
  Kimi,
  KimiAbortError,
  KimiError,
  type KimiOptions,
  type Tool,
} from "./client/index.ts";

const PROVIDER = "kimi";

/** A provider of language models. */
export interface KimiProvider {
  (modelId: string): LanguageModelV4;
  readonly specificationVersion: "v4";
  languageModel(modelId: string): LanguageModelV4;
  /** Kimi Code has none. */
  embeddingModel(modelId: string): never;
  /** Kimi Code has none. */
  imageModel(modelId: string): never;
}

/** Creates a provider with the options of a client. */
export function createKimi(options: KimiOptions = {}): KimiProvider {
  let client: Kimi | undefined;
  // Created with the first call, so that importing this module loads nothing.
  const model = (modelId: string): LanguageModelV4 =>
    new KimiLanguageModel(modelId, () => (client ??= new Kimi(options)));
  const none = (modelType: "embeddingModel" | "imageModel") => (modelId: string) => {
    throw new NoSuchModelError({ modelId, modelType });
  };
  return Object.assign((modelId: string) => model(modelId), {
    specificationVersion: "v4" as const,
    languageModel: model,
    embeddingModel: none("embeddingModel"),
    imageModel: none("imageModel"),
  });
}

/** The provider with the key or login of this machine. */
export const kimi = createKimi();

class KimiLanguageModel implements LanguageModelV4 {
  readonly specificationVersion = "v4";
  readonly provider = PROVIDER;
  readonly modelId: string;
  /** Uploaded files. Everything else is fetched by the SDK, because the service often refuses web addresses. */
  readonly supportedUrls = { "image/*": [/^ms:\/\//], "video/*": [/^ms:\/\//] };
  readonly #client: () => Kimi;

  constructor(modelId: string, client: () => Kimi) {
    this.modelId = modelId;
    this.#client = client;
  }

  async doGenerate(options: LanguageModelV4CallOptions): Promise<LanguageModelV4GenerateResult> {
    const { chat, warnings } = this.#start(options);
    try {
      for await (const event of chat)
        if (event.type === "note") warnings.push({ type: "other", message: event.message });
      const message = await chat.final();
      return {
        content: message.content.map((part) => contentOf(part)),
        finishReason: finishReason(message),
        usage: usageOf(message),
        warnings,
        response: { ...metadataOf(message), timestamp: new Date(message.timestamp) },
        providerMetadata: providerMetadata(message),
      };
    } catch (error) {
      throw apiError(error);
    }
  }

  async doStream(options: LanguageModelV4CallOptions): Promise<LanguageModelV4StreamResult> {
    const { chat, warnings } = this.#start(options);
    const events = chat[Symbol.asyncIterator]();
    let first: IteratorResult<ChatEvent, void>;
    try {
      // A request that fails has no stream. Notes about it come before it starts.
      do {
        first = await events.next();
        if (first.value?.type === "note") warnings.push({ type: "other", message: first.value.message });
      } while (first.done !== true && first.value.type !== "start");
    } catch (error) {
      throw apiError(error);
    }
    const parts = new StreamParts();
    const stream = new ReadableStream<LanguageModelV4StreamPart>({
      start: (controller) => controller.enqueue({ type: "stream-start", warnings }),
      pull: async (controller) => {
        try {
          for (;;) {
            const { done, value } = await events.next();
            if (done === true) return controller.close();
            const some = parts.of(value);
            for (const part of some) controller.enqueue(part);
            if (some.length > 0) return;
          }
        } catch (error) {
          controller.enqueue({ type: "error", error: apiError(error) });
          controller.close();
        }
      },
      cancel: () => chat.abort(),
    });
    return { stream };
  }

  #start(options: LanguageModelV4CallOptions): { chat: Chat; warnings: SharedV4Warning[] } {
    const warnings: SharedV4Warning[] = [];
    const request = chatRequest(this.modelId, options, warnings);
    try {
      return { chat: this.#client().chat(request), warnings };
    } catch (error) {
      throw apiError(error);
    }
  }
}

function chatRequest(model: string, options: LanguageModelV4CallOptions, warnings: SharedV4Warning[]): ChatRequest {
  const { prompt, maxOutputTokens, temperature, topP, stopSequences, abortSignal, reasoning } = options;
  for (const feature of ["topK", "presencePenalty", "frequencyPenalty", "seed"] as const) {
    if (options[feature] !== undefined) warnings.push({ type: "unsupported", feature });
  }
  const tools: Tool[] = [];
  for (const tool of options.tools ?? []) {
    if (tool.type !== "function") {
      warnings.push({ type: "unsupported", feature: `provider-defined tool ${tool.id}` });
      continue;
    }
    const { name, description, inputSchema } = tool;
    tools.push({ name, parameters: inputSchema, ...(description === undefined ? {} : { description }) });
  }
  const { toolChoice, responseFormat } = options;
  const headers = Object.fromEntries(
    Object.entries(options.headers ?? {}).filter((entry): entry is [string, string] => entry[1] !== undefined),
  );
  return {
    model,
    messages: prompt.flatMap((message) => messagesOf(message)),
    headers,
    ...(tools.length > 0 ? { tools } : {}),
    ...(toolChoice === undefined
      ? {}
      : { toolChoice: toolChoice.type === "tool" ? { name: toolChoice.toolName } : toolChoice.type }),
    ...(maxOutputTokens === undefined ? {} : { maxTokens: maxOutputTokens }),
    ...(temperature === undefined ? {} : { temperature }),
    ...(topP === undefined ? {} : { topP }),
    ...(stopSequences === undefined || stopSequences.length === 0 ? {} : { stop: stopSequences }),
    ...(abortSignal === undefined ? {} : { signal: abortSignal }),
    ...(reasoning === undefined || reasoning === "provider-default"
      ? {}
      : { thinking: reasoning === "none" ? "off" : reasoning }),
    ...providerOptions(options.providerOptions?.[PROVIDER] ?? {}, warnings),
    ...(responseFormat?.type === "json"
      ? {
          responseFormat:
            responseFormat.schema === undefined
              ? { type: "json_object" }
              : { type: "json_schema", name: responseFormat.name ?? "answer", schema: responseFormat.schema as object },
        }
      : {}),
  };
}

/** Options of a chat that the SDK has no name for, or not all values of. */
const OWN_OPTIONS = ["sessionId", "thinking", "priority", "onQuota", "timeoutMs", "maxRetries"] as const;

/** Options of `providerOptions.kimi`. */
export type KimiProviderOptions = Pick<ChatRequest, (typeof OWN_OPTIONS)[number]>;

/** Selects the options that exist; the client checks their values. */
function providerOptions(given: JSONObject, warnings: SharedV4Warning[]): KimiProviderOptions {
  if (typeof given !== "object" || given === null || Array.isArray(given)) {
    warnings.push({ type: "unsupported", feature: `providerOptions.${PROVIDER}`, details: "It must be an object." });
    return {};
  }
  const isKnown = (name: string): boolean => (OWN_OPTIONS as readonly string[]).includes(name);
  for (const name of Object.keys(given).filter((name) => !isKnown(name))) {
    const details = `Kimi has ${OWN_OPTIONS.join(", ")}.`;
    warnings.push({ type: "unsupported", feature: `providerOptions.${PROVIDER}.${name}`, details });
  }
  const known = Object.entries(given).filter(([name, value]) => isKnown(name) && value !== undefined);
  return Object.fromEntries(known) as KimiProviderOptions;
}

// ---- prompt

type UserPart = Extract<ChatMessage, { role: "user" }>["content"][number];

function messagesOf(message: LanguageModelV4Message): ChatMessage[] {
  switch (message.role) {
    case "system":
      return [{ role: "system", content: message.content }];
    case "user":
      return [
        {
          role: "user",
          content: message.content.map((part) =>
            part.type === "text" ? { type: "text", text: part.text } : filePart(part.data, part.mediaType),
          ) as Exclude<UserPart, string>[],
        },
      ];
    case "assistant":
      return [{ role: "assistant", content: message.content.flatMap((part) => answerPart(part)) }];
    case "tool":
      return message.content.flatMap((part) => (part.type === "tool-result" ? [toolResult(part)] : []));
  }
}

type AnswerPart = Extract<LanguageModelV4Message, { role: "assistant" }>["content"][number];

function answerPart(part: AnswerPart): AssistantMessage["content"] {
  if (part.type === "text") return [{ type: "text", text: part.text }];
  if (part.type === "tool-call") {
    const { toolCallId: id, toolName: name, input } = part;
    return [{ type: "toolCall", id, name, arguments: (input ?? {}) as Record<string, unknown> }];
  }
  if (part.type !== "reasoning") return [];
  const { signature, redacted } = (part.providerOptions?.[PROVIDER] ?? {}) as {
    signature?: string;
    redacted?: boolean;
  };
  return [
    {
      type: "thinking",
      thinking: part.text,
      ...(signature === undefined ? {} : { thinkingSignature: signature }),
      ...(redacted === undefined ? {} : { redacted }),
    },
  ];
}

function toolResult({ toolCallId, toolName, output }: LanguageModelV4ToolResultPart): ChatMessage {
  const isError = output.type === "error-text" || output.type === "error-json" || output.type === "execution-denied";
  const content = ((): unknown[] => {
    switch (output.type) {
      case "text":
      case "error-text":
        return [{ type: "text", text: output.value }];
      case "json":
      case "error-json":
        return [{ type: "text", text: JSON.stringify(output.value) }];
      case "execution-denied":
        return [{ type: "text", text: output.reason ?? "The user denied this call." }];
      case "content":
        return output.value.flatMap((part) => {
          if (part.type === "text") return [{ type: "text", text: part.text }];
          return part.type === "file" ? [filePart(part.data, part.mediaType)] : [];
        });
    }
  })();
  return { role: "toolResult", toolCallId, toolName, content: content as never, isError };
}

function filePart(data: SharedV4FileData, mediaType: string): object {
  if (data.type === "text") return { type: "text", text: data.text };
  const kind = mediaType.startsWith("video") ? "video" : "image";
  if (kind === "image" && !mediaType.startsWith("image")) {
    throw new UnsupportedFunctionalityError({ functionality: `files of type ${mediaType}` });
  }
  if (data.type === "data") {
    const text = typeof data.data === "string" ? data.data : Buffer.from(data.data).toString("base64");
    // The bytes tell the type; `image/*` names none.
    const mimeType =
      mediaType.includes("*") || !mediaType.includes("/") ? `${kind}/${kind === "image" ? "png" : "mp4"}` : mediaType;
    if (kind === "image") return { type: "image", mimeType, data: text };
    return { type: "video_url", video_url: { url: `data:${mimeType};base64,${text}` } };
  }
  const url = data.type === "url" ? data.url.href : String((data.reference as Record<string, unknown>)[PROVIDER]);
  return kind === "image" ? { type: "image_url", image_url: { url } } : { type: "video_url", video_url: { url } };
}

// ---- answer

function contentOf(part: AssistantMessage["content"][number]): LanguageModelV4Content {
  if (part.type === "text") return { type: "text", text: part.text };
  if (part.type === "thinking") {
    return { type: "reasoning", text: part.thinking, providerMetadata: { [PROVIDER]: signatureOf(part) } };
  }
  return { type: "tool-call", toolCallId: part.id, toolName: part.name, input: JSON.stringify(part.arguments) };
}

function signatureOf(part: { thinkingSignature?: string; redacted?: boolean }): JSONObject {
  const { thinkingSignature: signature, redacted } = part;
  return {
    ...(signature === undefined ? {} : { signature }),
    ...(redacted === undefined ? {} : { redacted }),
  };
}

function finishReason({ stopReason, rawStopReason }: AssistantMessage): LanguageModelV4FinishReason {
  const unified = ({ stop: "stop", length: "length", toolUse: "tool-calls" } as const)[stopReason as "stop"] ?? "other";
  return { unified, raw: rawStopReason };
}

function usageOf({ usage }: AssistantMessage): LanguageModelV4Usage {
  const { input, output, cacheRead, cacheWrite, reasoning } = usage;
  return {
    inputTokens: { total: input + cacheRead + cacheWrite, noCache: input, cacheRead, cacheWrite },
    outputTokens: { total: output, text: reasoning === undefined ? undefined : output - reasoning, reasoning },
  };
}

function metadataOf({ responseId, responseModel, model }: AssistantMessage): { id?: string; modelId: string } {
  return { ...(responseId === undefined ? {} : { id: responseId }), modelId: responseModel ?? model };
}

function providerMetadata({ usage }: AssistantMessage): { [PROVIDER]: JSONObject } {
  return { [PROVIDER]: { costUsd: usage.cost.total } };
}

/** Turns events of a chat into parts of a stream. */
class StreamParts {
  /** Text of the arguments of the calls under way, by position. */
  readonly #inputs = new Map<number, string>();

  of(event: ChatEvent): LanguageModelV4StreamPart[] {
    switch (event.type) {
      case "text_start":
        return [{ type: "text-start", id: String(event.contentIndex) }];
      case "text_delta":
        return [{ type: "text-delta", id: String(event.contentIndex), delta: event.delta }];
      case "text_end":
        return [{ type: "text-end", id: String(event.contentIndex) }];
      case "thinking_start":
        return [{ type: "reasoning-start", id: String(event.contentIndex) }];
      case "thinking_delta":
        return [{ type: "reasoning-delta", id: String(event.contentIndex), delta: event.delta }];
      case "thinking_end": {
        const part = event.partial.content[event.contentIndex] as { thinkingSignature?: string };
        const providerMetadata = { [PROVIDER]: signatureOf(part) };
        return [{ type: "reasoning-end", id: String(event.contentIndex), providerMetadata }];
      }
      case "toolcall_start": {
        const { id, name } = event.partial.content[event.contentIndex] as { id: string; name: string };
        this.#inputs.set(event.contentIndex, "");
        return [{ type: "tool-input-start", id, toolName: name }];
      }
      case "toolcall_delta": {
        const { id } = event.partial.content[event.contentIndex] as { id: string };
        this.#inputs.set(event.contentIndex, (this.#inputs.get(event.contentIndex) ?? "") + event.delta);
        return [{ type: "tool-input-delta", id, delta: event.delta }];
      }
      case "toolcall_end": {
        const { id, name, arguments: args } = event.toolCall;
        // Arguments that cannot be read go on as they came, so that the SDK reports them.
        const broken = "argumentsError" in event.toolCall;
        const input = broken ? (this.#inputs.get(event.contentIndex) ?? "") : JSON.stringify(args);
        return [
          { type: "tool-input-end", id },
          { type: "tool-call", toolCallId: id, toolName: name, input },
        ];
      }
      case "done": {
        const { message } = event;
        return [
          { type: "response-metadata", ...metadataOf(message), timestamp: new Date(message.timestamp) },
          {
            type: "finish",
            finishReason: finishReason(message),
            usage: usageOf(message),
            providerMetadata: providerMetadata(message),
          },
        ];
      }
      default:
        return [];
    }
  }
}

/** The error as the SDK knows it. */
function apiError(error: unknown): unknown {
  if (!(error instanceof KimiError) || error instanceof KimiAbortError) return error;
  const { message, status, retryAfterMs, traceId, code } = error;
  return new APICallError({
    message,
    url: "kimi-code",
    requestBodyValues: {},
    cause: error,
    isRetryable: false,
    data: { code, retryAfterMs, traceId },
    ...(status === undefined ? {} : { statusCode: status }),
  });
}
