// An answer as a value: it is checked against the schema, or the error says what is wrong with it.
import { Kimi, KimiError } from "pi-provider-kimi-code/client";

const schema = {
  type: "object",
  properties: { name: { type: "string" }, born: { type: "integer" } },
  required: ["name", "born"],
};

try {
  const chat = new Kimi().chat("Who wrote Faust?", { responseFormat: { type: "json_schema", name: "person", schema } });
  const { name, born } = await chat.object();
  console.log(`${name}, ${born}`);
} catch (error) {
  if (!(error instanceof KimiError) || error.code !== "invalid_object") throw error;
  console.log(error.message);
}
