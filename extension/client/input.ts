/**
 * The checks for everything that a program passes to the client.
 */
import { fileURLToPath } from "node:url";
import { kimiError } from "../errors.ts";
import type { Addon } from "../native/addon.ts";
import { parseAnswer } from "../native/call.ts";
import { OPTIONS_SOURCE, type SettingsOverrides, settingsVariable } from "../overrides.ts";
import {
  anything,
  callback,
  type Check,
  checked,
  described,
  filledText,
  flag,
  InvalidInput,
  invalid,
  json,
  list,
  memberName,
  members,
  nullable,
  number,
  oneOf,
  plainObject,
  record,
  signal,
  text,
} from "./checks.ts";

/** What happens at the end of a quota window. A program cannot ask its user. */
const onQuota = oneOf("wait", "stop");

/** Longest delay that a timer of JavaScript or Rust is asked for: about 24 days. */
const milliseconds = number(0, 2 ** 31 - 1);

const headers = record(nullable(text));

const cancellable = { signal };
const serviceOptions = { ...cancellable, timeoutMs: milliseconds };

// ---- client options

const CLIENT_HINTS = {
  baseURL: "use baseUrl",
  api_key: "use apiKey",
  timeout: "use timeoutMs of chat(), or settings.limits",
  maxRetries: "use maxRetries of chat(), or settings.retry.attempts",
  defaultHeaders: "use headers",
  fetch: "the addon makes the requests; set HTTPS_PROXY for a proxy",
  httpAgent: "set HTTPS_PROXY for a proxy",
  organization: "Kimi has none",
  project: "Kimi has none",
};

const settingsObject: Check = (value, name) => {
  plainObject(value, name);
  json(value, name);
};

const priority = oneOf("interactive", "agent", "batch");

const clientOptions = members(
  {
    apiKey: text,
    baseUrl: text,
    settings: settingsObject,
    env: record(text),
    model: filledText,
    onQuota,
    headers,
    native: filledText,
    logger: callback,
    priority,
  },
  [],
  CLIENT_HINTS,
);

export function checkClientOptions(options: unknown): void {
  checked("config", () => clientOptions(options, ""));
}

/** Checks the settings of a client. Which settings there are is known to the addon only. */
export function checkSettings(settings: SettingsOverrides | undefined, addon: Addon): void {
  const environment = settingsVariable(settings ?? {});
  if (Object.keys(environment).length === 0) return;
  const { problems } = parseAnswer<{ problems: string[] }>(addon.settings(JSON.stringify({ environment })));
  const message = problems[0]?.replace(OPTIONS_SOURCE, "settings");
  if (message !== undefined) throw kimiError({ code: "config", message });
}

// ---- tools

/** A JSON Schema, not the object of a schema library. */
const schema: Check = (value, name) => {
  plainObject(value, name);
  if ("~standard" in (value as object) || "_def" in (value as object)) {
    throw new InvalidInput(
      `${name} must be a JSON Schema; convert the schema object first, for example with z.toJSONSchema()`,
    );
  }
};

const toolMembers = members({ name: filledText, description: text, parameters: schema }, ["name"], {
  input_schema: "use parameters",
  inputSchema: "use parameters",
  schema: "use parameters",
  execute: "chat() does not run tools",
});

const openAiFunction = members(
  { name: filledText, description: text, parameters: schema, strict: nullable(flag) },
  ["name"],
  { input_schema: "use parameters" },
);

const tool: Check = (value, name) => {
  plainObject(value, name);
  const { type, function: nested } = value as { type?: unknown; function?: unknown };
  if (nested === undefined && type === undefined) return toolMembers(value, name);
  if (type !== "function") throw new InvalidInput(`${name}.type must be "function", not ${described(type)}`);
  members({ type: text, function: openAiFunction }, ["function"])(value, name);
};

// ---- messages

const roles = oneOf("system", "developer", "user", "assistant", "tool", "toolResult");

/** Base64, an uploaded file, or a web address. Matches the beginning only, because the rest may be megabytes. */
const MEDIA_ADDRESS = /^(?:data:[^,]{0,1000};base64,|ms:\/\/|https?:\/\/)/i;

const mediaAddress =
  (member: "image_url" | "video_url"): Check =>
  (part, name) => {
    const source = (part as Record<string, unknown>)[member];
    const url = typeof source === "object" && source !== null ? (source as { url?: unknown }).url : source;
    if (typeof url === "string" && MEDIA_ADDRESS.test(url)) return;
    const what = member === "image_url" ? "an image" : "a video";
    const expected = "a base64 data: URL, an uploaded file or a web address";
    const message = `${what} must be ${expected}; ${memberName(name, member)} is ${described(url)}`;
    throw new InvalidInput(message, "bad_media");
  };

/** The members that a part of each type needs; others are left alone. */
function needs(required: Record<string, Check>): Check {
  return (part, name) => {
    for (const [member, check] of Object.entries(required)) {
      check((part as Record<string, unknown>)[member], memberName(name, member));
    }
  };
}

const optional =
  (check: Check): Check =>
  (value, name) => {
    if (value !== undefined && value !== null) check(value, name);
  };

const imageSource: Check = (part, name) => {
  const { source } = part as { source?: unknown };
  if (source === undefined) return needs({ data: text, mimeType: text })(part, name);
  const { type } = (source ?? {}) as { type?: unknown };
  if (type === "url") return needs({ url: text })(source, `${name}.source`);
  if (type === "base64") return needs({ media_type: text, data: text })(source, `${name}.source`);
  throw new InvalidInput(`${name}.source.type must be base64 or url, not ${described(type)}`);
};

const textPart = needs({ text });
const media = { image: imageSource, image_url: mediaAddress("image_url"), video_url: mediaAddress("video_url") };

const resultPart: Check = (part, name) => {
  needs({ tool_use_id: filledText })(part, name);
  content({ text: textPart, ...media })((part as { content?: unknown }).content ?? "", `${name}.content`);
};

const userParts = { text: textPart, ...media, video: needs({ data: text }), tool_result: resultPart };

const assistantParts = {
  text: textPart,
  thinking: needs({ thinking: optional(text) }),
  redacted_thinking: needs({ data: text }),
  toolCall: needs({ id: filledText, name: filledText, arguments: optional(plainObject) }),
  tool_use: needs({ id: filledText, name: filledText, input: optional(plainObject) }),
};

/** Text, or a list of parts of known types. */
function content(types: Record<string, Check>): Check {
  return (value, name) => {
    if (typeof value === "string") return;
    if (!Array.isArray(value)) invalid(name, "a string or an array of parts", value);
    for (const [index, part] of value.entries()) {
      const at = `${name}[${index}]`;
      plainObject(part, at);
      const { type } = part as { type?: unknown };
      oneOf(...Object.keys(types))(type, `${at}.type`);
      types[type as string]?.(part, at);
    }
  };
}

const openAiCall: Check = (call, name) => {
  plainObject(call, name);
  needs({ id: filledText })(call, name);
  const { function: called, id } = call as { function?: unknown; id: string };
  plainObject(called, `${name}.function`);
  const { name: tool, arguments: given } = called as { name?: unknown; arguments?: unknown };
  filledText(tool, `${name}.function.name`);
  if (typeof given !== "string") invalid(`${name}.function.arguments`, "a string with JSON", given);
  try {
    JSON.parse(given === "" ? "{}" : given);
  } catch {
    throw new InvalidInput(`the arguments of tool call ${id} are not JSON`);
  }
};

const CONTENT: Record<string, Check> = {
  system: needs({ content: optional(content({ text: textPart })) }),
  user: needs({ content: content(userParts) }),
  assistant: needs({ content: optional(content(assistantParts)), tool_calls: optional(list(openAiCall)) }),
  tool: needs({ tool_call_id: filledText, content: optional(content({ text: textPart, ...media })) }),
  toolResult: needs({ toolCallId: filledText, content: optional(content({ text: textPart, ...media })) }),
};
CONTENT["developer"] = CONTENT["system"] as Check;

const resultParts: Record<string, Check> = {
  text: textPart,
  image: needs({ data: text, mimeType: text }),
  image_url: media.image_url,
  video_url: media.video_url,
};

/** Whether a value is a part of a tool's result, and not data that happens to have a `type`. */
export function isResultPart(value: unknown): boolean {
  try {
    content(resultParts)([value], "");
    return true;
  } catch {
    return false;
  }
}

/** Checks one message; the error begins with its position. */
function checkMessage(message: unknown, position: number): void {
  try {
    if (typeof message !== "object" || message === null || Array.isArray(message)) {
      throw new InvalidInput(`a message must be an object, not ${described(message)}`);
    }
    const { role } = message as { role?: unknown };
    roles(role, "role");
    CONTENT[role as string]?.(message, "");
  } catch (error) {
    if (!(error instanceof InvalidInput)) throw error;
    throw new InvalidInput(`message ${position}: ${error.message}`, error.code);
  }
}

// ---- chats

const BODY_HINT = "the service's own parameters can be set with onPayload";

const CHAT_HINTS = {
  max_tokens: "use maxTokens",
  max_completion_tokens: "use maxTokens",
  maxOutputTokens: "use maxTokens",
  reasoning: "use thinking",
  reasoning_effort: "use thinking",
  reasoningEffort: "use thinking",
  stream: "iterate over the chat, or await final()",
  baseURL: "use baseUrl of new Kimi()",
  baseUrl: "use it in new Kimi()",
  apiKey: "use it in new Kimi()",
  settings: "use it in new Kimi()",
  env: "use it in new Kimi()",
  prompt: "pass the text as the first argument, or use messages",
  maxSteps: "use kimi.run()",
  systemPrompt: "use system",
  instructions: "use system",
  abortSignal: "use signal",
  timeout: "use timeoutMs",
  retries: "use maxRetries",
  prompt_cache_key: "use sessionId",
  top_p: "use topP",
  stop_sequences: "use stop",
  stopSequences: "use stop",
  functions: "use tools",
  function_call: "use toolChoice",
  extra_body: BODY_HINT,
  seed: BODY_HINT,
  n: BODY_HINT,
  frequency_penalty: BODY_HINT,
  presence_penalty: BODY_HINT,
};

const choices = oneOf("auto", "none", "required", "{ name }");

const toolChoice: Check = (value, name) => {
  if (typeof value === "object" && value !== null) members({ name: filledText }, ["name"])(value, name);
  else choices(value, name);
};

const responseFormat: Check = (value, name) => {
  plainObject(value, name);
  const { type } = value as { type?: unknown };
  oneOf("text", "json_object", "json_schema")(type, `${name}.type`);
  const schemaMembers: Record<string, Check> = type === "json_schema" ? { name: text, schema } : {};
  members({ type: text, ...schemaMembers }, type === "json_schema" ? ["schema"] : [], {
    json_schema: "put name and schema beside type",
  })(value, name);
};

const stop: Check = (value, name) => {
  if (typeof value !== "string") list(filledText)(value, name);
};

const chatMembers = {
  messages: anything,
  model: filledText,
  system: text,
  tools: list(tool),
  toolChoice,
  responseFormat,
  stop,
  thinking: oneOf("off", "minimal", "low", "medium", "high", "xhigh", "max"),
  maxTokens: number(1),
  temperature: number(0, 100, true),
  topP: number(0, 1, true),
  sessionId: text,
  priority,
  headers,
  timeoutMs: milliseconds,
  maxRetries: number(0, 1000),
  onQuota,
  signal,
  onPayload: callback,
  onResponse: callback,
};

const chatOptions = members(chatMembers, [], CHAT_HINTS);

const runTool: Check = (value, name) => {
  members({ name: filledText, description: text, parameters: schema, execute: callback }, ["name", "execute"], {
    inputSchema: "use parameters",
    input_schema: "use parameters",
  })(value, name);
};

const runOptions = members(
  {
    ...chatMembers,
    tools: list(runTool),
    maxSteps: number(1, 10_000),
    loop: (value, name) => {
      if (value !== false) members({ warn: number(0), block: number(0), stop: number(0) })(value, name);
    },
    onStep: callback,
    onEvent: callback,
    prompt: text,
  },
  [],
  CHAT_HINTS,
);

/** Checks a run; `chat` checks its messages. */
export function checkRun(options: unknown): void {
  checked("bad_request", () => {
    runOptions(options, "");
    const { prompt, messages } = options as { prompt?: unknown; messages?: unknown };
    if ((prompt === undefined) === (messages === undefined)) {
      throw new InvalidInput("a run needs messages or a prompt, not both");
    }
  });
}

/** Checks a chat: all options and messages. */
export function checkChat(input: unknown, options: unknown): void {
  checked("bad_request", () => {
    chatOptions(options, "");
    if (typeof input === "string") return;
    if (typeof input !== "object" || input === null) {
      invalid("the input of a chat", "a string, an array or an object", input);
    }
    if (!Array.isArray(input)) chatOptions(input, "");
    const messages: unknown = Array.isArray(input) ? input : (input as { messages?: unknown }).messages;
    if (!Array.isArray(messages)) invalid("messages", "an array", messages);
    for (const [position, message] of messages.entries()) checkMessage(message, position);
  });
}

// ---- other calls

const uploadOptions = members({
  ...cancellable,
  purpose: oneOf("image", "video"),
  mimeType: text,
  again: flag,
  onProgress: callback,
});

/** Checks an upload. `file` may come from another realm, so only its form counts. */
export function checkUpload(file: unknown, options: unknown): void {
  checked("bad_request", () => {
    uploadOptions(options, "");
    const url =
      file instanceof URL
        ? file.protocol
        : typeof file === "string"
          ? /^([a-z][a-z0-9+.]+:)\/\//i.exec(file)?.[1]
          : undefined;
    if (url !== undefined && url.toLowerCase() !== "file:") {
      throw new InvalidInput(`the file must be local: download ${url}// addresses first and pass the bytes`);
    }
    if (file instanceof URL) {
      try {
        fileURLToPath(file);
      } catch (error) {
        throw new InvalidInput(`the file: URL names no path: ${(error as Error).message}`);
      }
    }
    if (file === "") invalid("the file", "a path, a file: URL, bytes or a Blob", file);
    const bytes = ArrayBuffer.isView(file) || file instanceof ArrayBuffer || file instanceof Blob;
    if (typeof file !== "string" && !(file instanceof URL) && !bytes) {
      invalid("the file", "a path, a file: URL, bytes or a Blob", file);
    }
  });
}

export function checkSearch(query: unknown, options: unknown): void {
  checked("bad_request", () => {
    filledText(query, "the query");
    members(serviceOptions)(options, "");
  });
}

export function checkFetch(url: unknown, options: unknown): void {
  checked("bad_request", () => {
    filledText(url, "the address");
    members(serviceOptions)(options, "");
  });
}

const datasource = members({ source: filledText, api: text, params: json, project: text }, ["source"], {
  data_source_name: "use source",
  api_name: "use api",
});

export function checkDatasource(request: unknown, options: unknown): void {
  checked("bad_request", () => {
    datasource(request, "");
    members(serviceOptions)(options, "");
  });
}

const loginOptions = members(
  { ...cancellable, onCode: callback, onProgress: callback, region: oneOf("mainland-cn", "global") },
  ["onCode"],
);

export function checkLogin(options: unknown): void {
  checked("bad_request", () => loginOptions(options, ""));
}

const usageOptions = members({
  ...cancellable,
  history: filledText,
  by: oneOf("session", "project", "model", "day"),
  sessionId: text,
});

/** Checks what `usage()` is asked for. The addon knows which spans of time there are. */
export function checkUsage(options: unknown): void {
  checked("bad_request", () => {
    usageOptions(options, "");
    const { history, by } = options as { history?: unknown; by?: unknown };
    if (by !== undefined && history === undefined) throw new InvalidInput('by needs history, for example "7d"');
  });
}

/** Checks the options of a call that takes a signal only. */
export function checkCancellable(options: unknown): void {
  checked("bad_request", () => members(cancellable)(options, ""));
}
