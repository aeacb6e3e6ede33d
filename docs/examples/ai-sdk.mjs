// The AI SDK with Kimi as its provider: a stream, and an object that follows a schema. Needs `npm install ai @ai-sdk/provider`.
import { generateText, jsonSchema, Output, streamText } from "ai";
import { kimi } from "pi-provider-kimi-code/ai-sdk";

const { textStream } = streamText({ model: kimi("kimi-for-coding"), prompt: "Why is the sky blue?" });
for await (const text of textStream) process.stdout.write(text);
console.log();

const schema = jsonSchema({ type: "object", properties: { city: { type: "string" } }, required: ["city"] });
const { output } = await generateText({
  model: kimi("kimi-for-coding"),
  prompt: "Which city is the capital of France?",
  output: Output.object({ schema }),
});
console.log(output.city);
