/** Shows the same image in two turns of a process of its own: `media-child.ts <seed>` prints one line of JSON. */
import { fakePng } from "./sample-media.ts";
import { addon, runOne } from "./turn.ts";

const { TEST_URL: baseUrl = "", TEST_KEY: apiKey = "" } = process.env;
const native = addon();
const data = fakePng(2_000_000, process.argv[2]).toString("base64");
const messages = [{ role: "user", content: [{ type: "image", mimeType: "image/png", data }], timestamp: 1 }];
const ends: string[] = [];
for (let round = 0; round < 2; round += 1) {
  const { message } = await runOne(native, { baseUrl, apiKey, context: { messages } });
  ends.push(message.errorMessage ?? message.stopReason);
}
console.log(JSON.stringify(ends));
