// A tool loop in one call: the model asks for tools until it can answer.
import { Kimi } from "pi-provider-kimi-code/client";

const { text, steps } = await new Kimi().run({
  prompt: "What is the weather in Beijing?",
  tools: [
    {
      name: "weather",
      description: "The weather of a city",
      parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
      execute: async ({ city }, { signal }) => (signal.aborted ? "" : `${city}: 21 °C, sunny`),
    },
  ],
});
console.log(`${text} (${steps.length} steps)`);
