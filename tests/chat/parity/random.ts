/** Conversations generated from a seed: every kind of message that Pi records, in orders that occur. */
import type { Context, Message, Tool } from "@earendil-works/pi-ai";

export type Shape = "prompt and tools" | "system messages";

const PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
const WORDS = [
  "run",
  "the",
  "tests",
  "für",
  "中文字",
  "a\nb",
  '"quoted"',
  "emoji 😀",
  "lone \ud83d",
  "<tag>",
  "  spaced ",
];

/** A small seeded generator (mulberry32). */
export class Dice {
  #state: number;

  constructor(seed: number) {
    this.#state = seed;
  }

  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  }

  chance(share: number): boolean {
    return this.next() < share;
  }

  below(limit: number): number {
    return Math.floor(this.next() * limit);
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)] as T;
  }

  text(): string {
    return Array.from({ length: 1 + this.below(5) }, () => this.pick(WORDS)).join(" ");
  }
}

function tool(name: string, dice: Dice): Tool {
  const parameters = {
    type: "object",
    properties: { path: { type: "string", description: dice.text().trim() }, count: { type: "integer", minimum: 1 } },
    required: ["path"],
  };
  return { name, description: `Does ${name}. ${dice.text()}`, parameters } as unknown as Tool;
}

interface Recorded {
  api: string;
  provider: string;
  model: string;
}

/** Generates one conversation. `own` is what the model under test records; `signature` what its reasoning is signed with. */
export function conversation(seed: number, shape: Shape, own: Recorded, signature: string): Context {
  const dice = new Dice(seed);
  const messages: unknown[] = [];
  const names = ["bash", "read", "edit"];
  const firstTools = dice.chance(0.8) ? names.map((name) => tool(name, dice)) : [];
  let serial = 0;
  const image = (): unknown => ({ type: "image", data: PNG, mimeType: "image/png" });
  const system = (): void => {
    if (shape !== "system messages" || !dice.chance(0.3)) return;
    serial += 1;
    const change = dice.below(6);
    messages.push({
      role: "system",
      content: dice.chance(0.5) ? dice.text() : "",
      ...(dice.chance(0.6)
        ? { sections: { cwd: dice.text(), [`s${serial}`]: dice.chance(0.3) ? null : dice.text() } }
        : {}),
      ...(change === 0 || change === 1 ? { toolsAdded: [tool(`late${serial}`, dice)] } : {}),
      ...(change === 2 && dice.chance(0.3) ? { toolsRemoved: [{ name: "read" }] } : {}),
      ...(change === 3 && dice.chance(0.3) ? { toolsAdded: [tool("bash", dice)] } : {}),
      timestamp: serial,
    });
  };
  const user = (): void => {
    const parts = [
      ...(dice.chance(0.9) ? [{ type: "text", text: dice.text() }] : []),
      ...(dice.chance(0.1) ? [{ type: "text", text: "" }] : []),
      ...(dice.chance(0.2) ? [image(), image()] : []),
      ...(dice.chance(0.2) ? [{ type: "text", text: dice.text() }] : []),
    ];
    messages.push({ role: "user", content: dice.chance(0.4) ? dice.text() : parts, timestamp: 1 });
  };
  const answer = (): void => {
    const mine = dice.chance(0.7);
    const by = mine ? own : { api: "openai-responses", provider: "openai", model: "gpt-9" };
    const ending = dice.below(12);
    const calls = Array.from({ length: dice.chance(0.6) ? 1 + dice.below(3) : 0 }, (_, index) => ({
      type: "toolCall",
      // Moonshot restarts its call ids in every answer; other services send long ids with bars.
      id: mine ? `${dice.pick(names)}:${index}` : `call_${serial}_${index}|fc_${"x".repeat(dice.below(90))}+/=`,
      name: dice.pick(names),
      arguments: dice.chance(0.1) ? {} : { path: dice.text(), nested: { list: [1, null, "x"] } },
    }));
    serial += 1;
    const content = [
      ...(dice.chance(0.6)
        ? [
            {
              type: "thinking",
              thinking: dice.chance(0.1) ? "" : dice.text(),
              ...(mine ? { thinkingSignature: signature } : {}),
            },
          ]
        : []),
      ...(dice.chance(0.1)
        ? [{ type: "thinking", thinking: dice.text(), ...(mine ? { thinkingSignature: signature } : {}) }]
        : []),
      ...(dice.chance(0.7) ? [{ type: "text", text: dice.text() }] : []),
      ...(dice.chance(0.1) ? [{ type: "text", text: "  " }] : []),
      ...(dice.chance(0.1) ? [{ type: "text", text: dice.text() }] : []),
      ...calls,
    ];
    const stopReason = ending === 0 ? "aborted" : ending === 1 ? "error" : calls.length > 0 ? "toolUse" : "stop";
    messages.push({ role: "assistant", content, ...by, stopReason, usage: { totalTokens: 1000 }, timestamp: 1 });
    if (ending < 2) return;
    const ids = new Set<string>();
    for (const call of calls) {
      if (ids.has(call.id) || dice.chance(0.12)) continue;
      ids.add(call.id);
      if (dice.chance(0.1)) system();
      messages.push({
        role: "toolResult",
        toolCallId: call.id,
        toolName: call.name,
        content: [
          ...(dice.chance(0.9) ? [{ type: "text", text: dice.text() }] : []),
          ...(dice.chance(0.2) ? [{ type: "text", text: dice.text() }] : []),
          ...(dice.chance(0.15) ? [image()] : []),
        ],
        isError: dice.chance(0.2),
        timestamp: 1,
      });
    }
  };
  const rounds = 1 + dice.below(8);
  for (let round = 0; round < rounds; round += 1) {
    system();
    user();
    system();
    for (let step = dice.below(3); step >= 0; step -= 1) answer();
  }
  user();
  const prompt = dice.chance(0.9) ? dice.text() : "";
  if (shape === "prompt and tools") {
    return { systemPrompt: prompt, tools: firstTools, messages: messages as Message[] };
  }
  const head = {
    role: "system",
    content: dice.chance(0.5)
      ? prompt
      : [
          { type: "text", text: prompt },
          { type: "text", text: "second" },
        ],
    sections: { preamble: dice.text(), gone: null, cwd: "/tmp" },
    ...(firstTools.length > 0 ? { toolsAdded: firstTools } : {}),
    timestamp: 0,
  };
  return { messages: [head, ...messages] as Message[] };
}
