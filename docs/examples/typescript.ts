// TypeScript: events, messages and errors are typed. Node 22.18 and newer run this file as it is.
import { type AssistantMessage, type ChatEvent, Kimi, KimiError } from "pi-provider-kimi-code/client";

function show(event: ChatEvent): void {
  if (event.type === "text_delta") process.stdout.write(event.delta);
  if (event.type === "retry") console.error(`${event.message}; attempt ${event.attempt} of ${event.attempts} follows`);
}

async function ask(question: string): Promise<AssistantMessage> {
  const chat = new Kimi().chat(question, { thinking: "low" });
  for await (const event of chat) show(event);
  return chat.final();
}

try {
  const { usage, stopReason } = await ask("Why is the sky blue?");
  console.log(`\n${stopReason}, ${usage.output} tokens`);
} catch (error) {
  if (!(error instanceof KimiError)) throw error;
  console.error(error.code, error.message);
}
