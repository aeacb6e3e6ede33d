/**
 * Shows a conversation: builds the addon, starts the simulator, and runs Pi with a prompt that calls a tool.
 *
 * Exits with 0 only if the model thought, called Pi's `bash`, read the result and answered with it.
 */
import { styleText } from "node:util";
import { buildAddon } from "../../npm/build.mjs";
import { startSimulator } from "../simulator/index.ts";
import { Home, messages, runPi, textOf } from "../support/pi.ts";

const PROMPT = "How many bytes has the word simulator? run: printf simulator | wc -c";

// The debug build, which is there in a third of the time.
buildAddon(false);

const simulator = await startSimulator();
const home = new Home();
const say = (who: string, text: string): void => console.log(`\n${styleText("bold", who)}\n${text.trim()}`);
let failed = true;
try {
  console.log(`\nReal Pi, our extension, and a local Kimi at ${simulator.baseUrl}`);
  say("you", PROMPT);
  const { code, events, stderr } = await runPi(
    ["--mode", "json", "--no-session", "--model", "kimi-coding/kimi-for-coding", PROMPT],
    { home, env: { KIMI_CODE_BASE_URL: simulator.baseUrl, KIMI_API_KEY: simulator.apiKey } },
  );
  if (stderr !== "") say("Pi (stderr)", stderr);
  for (const event of events.filter(({ type }) => type === "message_end")) {
    const message = event["message"] as ReturnType<typeof messages>[number];
    if (message.role === "toolResult") say("bash", textOf(message));
    if (message.role !== "assistant") continue;
    for (const block of message.content) {
      if (block.type === "thinking") say("Kimi thinks", String(block["thinking"]));
      if (block.type === "toolCall")
        say("Kimi calls", `${String(block["name"])} ${JSON.stringify(block["arguments"])}`);
      if (block.type === "text") say("Kimi", String(block["text"]));
    }
    if (message.errorMessage !== undefined) say("error", message.errorMessage);
    const { input = 0, output = 0, cacheRead = 0, cost } = message.usage ?? {};
    const spent = `${input} in, ${cacheRead} from cache, ${output} out, $${(cost?.total ?? 0).toFixed(6)}`;
    console.log(styleText("dim", spent));
  }
  const answers = messages(events);
  const thought = answers.some(({ content }) => content.some(({ type }) => type === "thinking"));
  const called = answers[0]?.stopReason === "toolUse";
  const result = messages(events, "toolResult").map(textOf).join("").trim();
  failed = code !== 0 || !thought || !called || result !== "9" || !textOf(answers.at(-1)).includes("9");
  console.log(failed ? "\nThe conversation did not go as it should." : "\nAll of it went as it should.");
} finally {
  home.remove();
  await simulator.close();
}
process.exitCode = failed ? 1 : 0;
