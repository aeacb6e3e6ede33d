// Streams an answer: reasoning, text, token counts.
import { Kimi } from "pi-provider-kimi-code";

const kimi = new Kimi({ model: "k3" });
const chat = kimi.chat("Why is the sky blue?", { thinking: "high", system: "Answer in one sentence." });

for await (const event of chat) {
  if (event.type === "thinking_delta" || event.type === "text_delta") process.stdout.write(event.delta);
  if (event.type === "thinking_end") process.stdout.write("\n---\n");
  if (event.type === "retry") console.error(`(${event.message}; retry in ${event.delayMs} ms)`);
}

const { usage } = await chat.final();
console.log(`\n${usage.input} tokens in, ${usage.cacheRead} cached, ${usage.output} out`);
