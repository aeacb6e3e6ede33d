/** Builds the conversation of a long session: turns with reasoning, tool calls and results, and sixty tools. */

const MESSAGES_PER_MEGABYTE = 400;
const LINES = {
  code: 'fn main() { println!("greetings, world"); }\n\t// and so on, line by line\n',
  /** V8 stores a string with one character beyond Latin-1 in two bytes per character. */
  chinese: 'fn main() { println!("你好，世界"); }\n\t// 如此这般，一行接着一行\n',
};

/** Kind of text in a history. */
export type Script = keyof typeof LINES;

function tool(serial: number): object {
  return {
    name: `tool_${serial}`,
    description: "Does something useful with a path. ".repeat(8),
    parameters: {
      type: "object",
      required: ["path"],
      properties: {
        path: { type: "string", description: "Path of the file, absolute or relative to the working directory" },
        limit: { type: "integer", description: "At most so many", minimum: 1 },
        list: { type: "array", items: { type: "object", properties: { a: { type: "string" } } } },
      },
    },
  };
}

/** Builds a Pi context of about `bytes` bytes of JSON, with 400 messages per megabyte answered by a model of this Pi API. */
export function history(bytes: number, api: string, script: Script = "code"): object {
  const line = LINES[script];
  const width = Buffer.byteLength(line) / line.length;
  const piece = (share: number): string => {
    const length = Math.max(1, Math.round(share / width));
    return line.repeat(Math.ceil(length / line.length)).slice(0, length);
  };
  const rounds = Math.max(1, Math.round((bytes / 1e6) * (MESSAGES_PER_MEGABYTE / 4)));
  // About a fifth of the JSON is member names and escapes.
  const share = (bytes * 0.8) / rounds;
  const answer = {
    role: "assistant",
    api,
    provider: "kimi-coding",
    model: "kimi-for-coding",
    usage: { input: 0, output: 0, cacheRead: 0, cacheWrite: 0, totalTokens: 1000, cost: { total: 0 } },
    timestamp: 1,
  };
  const messages = Array.from({ length: rounds }, (_, round) => {
    const id = `bash_${round}`;
    return [
      { role: "user", content: [{ type: "text", text: piece(share / 10) }], timestamp: 1 },
      {
        ...answer,
        stopReason: "toolUse",
        content: [
          { type: "thinking", thinking: piece(share / 10), thinkingSignature: "reasoning_content" },
          { type: "toolCall", id, name: "tool_1", arguments: { path: piece(share / 20) } },
        ],
      },
      {
        role: "toolResult",
        toolCallId: id,
        toolName: "tool_1",
        isError: false,
        content: [{ type: "text", text: piece((share * 13) / 20) }],
        timestamp: 1,
      },
      { ...answer, stopReason: "stop", content: [{ type: "text", text: piece(share / 10) }] },
    ];
  }).flat();
  return {
    systemPrompt: piece(8000),
    tools: Array.from({ length: 60 }, (_, serial) => tool(serial)),
    messages: [...messages, { role: "user", content: "go on", timestamp: 1 }],
  };
}
