// An answer while it arrives: reasoning, text, and what it cost.
import { Kimi } from "pi-provider-kimi-code";

const kimi = new Kimi({ model: "k3" });
const chat = kimi.chat("Why is the sky blue?", { thinking: "high", system: "Answer in one sentence." });

for await (const event of chat) {
  if (event.type === "thinking_delta" || event.type === "text_delta") process.stdout.write(event.delta);
  if (event.type === "thinking_end") process.stdout.write("\n---\n");
  if (event.type === "retry") console.error(`(${event.message}; again in ${event.delayMs} ms)`);
}

const { usage } = await chat.final();
console.log(`\n${usage.input} tokens in, ${usage.cacheRead} of the cache, ${usage.output} out`);
