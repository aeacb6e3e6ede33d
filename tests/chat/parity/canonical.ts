/**
 * Bodies in a form that leaves out where we intentionally differ from Pi (docs/architecture.md#requests). Everything else must be
 * equal.
 */

export type Json = null | boolean | number | string | Json[] | { [member: string]: Json };
export type Members = { [member: string]: Json };

const list = (value: Json | undefined): Members[] => (Array.isArray(value) ? (value as Members[]) : []);
/** Blank text, or the text that replaces it where the service requires a message. */
const isBlank = (part: Members): boolean =>
  part["type"] === "text" && ["", "(no content)"].includes(String(part["text"]).trim());
const texts = (parts: Members[]): string =>
  parts
    .filter((part) => part["type"] === "text")
    .map((part) => part["text"])
    .join("\n");

/** Calls get numbers in order of appearance, results the number of their call; results without a call are left out. */
class Calls {
  #serial = 0;
  #open = new Map<string, string[]>();

  next(): void {
    this.#open.clear();
  }

  call(id: Json | undefined): string {
    this.#serial += 1;
    const number = `call ${this.#serial}`;
    this.#open.set(String(id), [...(this.#open.get(String(id)) ?? []), number]);
    return number;
  }

  result(id: Json | undefined): string | undefined {
    return this.#open.get(String(id))?.shift();
  }
}

/** Pi leaves lone surrogates in arguments and tools, where no service can read them; we remove them everywhere. */
export function withoutLoneSurrogates(value: Json): Json {
  if (typeof value === "string") {
    const text = value.replaceAll(/\\u[dD][89a-fA-F][0-9a-fA-F]{2}/g, "");
    return text.replaceAll(/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g, "");
  }
  if (Array.isArray(value)) return value.map(withoutLoneSurrogates);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, withoutLoneSurrogates(member)]));
}

/** Messages and tools of a chat body. */
export function openai(body: Members): Members {
  const calls = new Calls();
  const messages: Members[] = [];
  let images: Members[] = [];
  const flush = (): void => {
    if (images.length > 0) {
      const note = { type: "text", text: "Attached image(s) from tool result:" };
      messages.push({ role: "user", content: [note, ...images] });
    }
    images = [];
  };
  for (const message of list(body["messages"])) {
    if (message["role"] === "tool") {
      const id = calls.result(message["tool_call_id"]);
      if (id === undefined) continue;
      // Images stay inside the tool message; Pi moves them to a message after the results.
      const parts = list(message["content"]);
      const own = parts.filter((part) => part["type"] === "image_url");
      const text = Array.isArray(message["content"]) ? texts(parts) : message["content"];
      messages.push({ role: "tool", tool_call_id: id, content: text === "" ? "(see attached image)" : (text ?? "") });
      images.push(...own);
      continue;
    }
    flush();
    if (message["role"] === "user") {
      const { content } = message;
      const parts = typeof content === "string" ? [{ type: "text", text: content }] : list(content);
      const kept = parts.filter((part) => !isBlank(part));
      if (kept.length > 0) messages.push({ role: "user", content: kept });
    } else if (message["role"] === "assistant") {
      calls.next();
      const { content, tool_calls: own, ...rest } = message;
      // An answer of reasoning alone is kept; Pi leaves it out.
      if ((content === "" || content === null || content === undefined) && own === undefined) continue;
      messages.push({
        ...rest,
        ...(content === null || content === undefined ? {} : { content }),
        ...(own === undefined
          ? {}
          : { tool_calls: list(own).map((call) => ({ ...call, id: calls.call(call["id"]) })) }),
      });
    } else {
      messages.push(message);
    }
  }
  flush();
  return { model: body["model"] ?? null, stream: body["stream"] ?? null, tools: list(body["tools"]), messages };
}

/** Tools that join later, at the top level: Pi 0.87 sends them there once a tool was removed or declared again. */
export function withoutLateTools(body: Members): Members {
  const late = list(body["messages"]).filter((message) => message["tools"] !== undefined);
  return {
    ...body,
    tools: [...list(body["tools"]), ...late.flatMap((message) => list(message["tools"]))],
    messages: list(body["messages"]).filter((message) => message["tools"] === undefined),
  };
}

export function hasLateTools(body: Members): boolean {
  return list(body["messages"]).some((message) => message["tools"] !== undefined);
}

/** Messages, system prompt and tools of a messages body. */
export function anthropic(body: Members): Members {
  const calls = new Calls();
  const messages: { role: string; content: Members[] }[] = [];
  for (const message of list(body["messages"])) {
    const { content } = message;
    let blocks = (typeof content === "string" ? [{ type: "text", text: content }] : list(content)).map(withoutMark);
    let role = String(message["role"]);
    if (role === "system") {
      role = "user";
      blocks = blocks.map((block) => ({ type: "text", text: `<system>\n${String(block["text"])}\n</system>` }));
    }
    if (role === "assistant") calls.next();
    blocks = blocks.flatMap((block): Members[] => {
      if (block["type"] === "tool_use") return [{ ...block, id: calls.call(block["id"]) }];
      if (block["type"] === "thinking") return thinking(block);
      if (block["type"] !== "tool_result") return isBlank(block) ? [] : [block];
      const id = calls.result(block["tool_use_id"]);
      return id === undefined
        ? []
        : [{ ...block, tool_use_id: id, content: resultOf(block["content"]), is_error: block["is_error"] ?? false }];
    });
    const last = messages.at(-1);
    if (last?.role === "user" && role === "user") last.content.push(...blocks);
    else if (blocks.length > 0) messages.push({ role, content: blocks });
  }
  // Pi puts later instructions directly before the next answer; ours stay where they were given.
  for (const message of messages) {
    const late = (block: Members): boolean => String(block["text"]).startsWith("<system>");
    message.content = [...message.content.filter((block) => !late(block)), ...message.content.filter(late)];
  }
  const tools = list(body["tools"]).map((tool) => {
    const schema = tool["input_schema"] as Members;
    return {
      name: tool["name"] ?? null,
      description: tool["description"] ?? null,
      input_schema: { type: "object", properties: schema["properties"] ?? {}, required: schema["required"] ?? [] },
    };
  });
  return {
    model: body["model"] ?? null,
    stream: body["stream"] ?? null,
    system: list(body["system"]).map(withoutMark),
    tools,
    messages,
  };
}

function withoutMark(block: Members): Members {
  return Object.fromEntries(Object.entries(block).filter(([name]) => name !== "cache_control"));
}

/** Unsigned reasoning goes back without a signature; Pi sends an empty one. The blank one beside calls is ours alone. */
function thinking({ signature, ...block }: Members): Members[] {
  if (block["thinking"] === "" && !signature) return [];
  return [signature ? { ...block, signature } : block];
}

/** Results are lists of blocks; Pi sends text alone as a string, and a word beside a lone image. */
function resultOf(content: Json | undefined): Json {
  const blocks = typeof content === "string" ? [{ type: "text", text: content }] : list(content);
  const kept = blocks.filter((block) => !isBlank(block) && block["text"] !== "(see attached image)");
  return kept.length > 0 ? kept : [{ type: "text", text: "(no tool output)" }];
}
