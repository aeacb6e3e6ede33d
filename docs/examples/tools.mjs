// A small agent: the model calls a tool until it can answer. OpenAI-style tools and messages work as well.
import { Kimi } from "pi-provider-kimi-code";

const kimi = new Kimi();
const tools = [
  {
    name: "bash",
    description: "Runs a command. This example only pretends to.",
    parameters: { type: "object", properties: { command: { type: "string" } }, required: ["command"] },
  },
];
const messages = [{ role: "user", content: "What is the weather in Beijing? Ask the command `weather`." }];

for (;;) {
  // The same session id for the whole conversation.
  const answer = await kimi.chat({ messages, tools, sessionId: "weather-example" }).final();
  messages.push(answer); // with its reasoning, which the service needs
  const calls = answer.content.filter((part) => part.type === "toolCall");
  if (calls.length === 0) {
    console.log(answer.content.map((part) => (part.type === "text" ? part.text : "")).join(""));
    break;
  }
  for (const call of calls) {
    console.log(`(${call.name} ${JSON.stringify(call.arguments)})`);
    messages.push({ role: "toolResult", toolCallId: call.id, content: [{ type: "text", text: "21 °C, sunny" }] });
  }
}
