/** A plain Node program without Pi: runs one turn with whatever credential it finds and prints one line of JSON. */
import { environment, host } from "../../extension/environment.ts";
import { OpCode } from "../../extension/native/addon.ts";
import { loadAddon } from "../../extension/native/loader.ts";
import { encodeContext } from "../../extension/turn/context.ts";

const { addon, ...rest } = loadAddon();
if (addon === undefined) throw new Error(JSON.stringify(rest));
process.once("exit", () => addon.shutdown());

// The user quits in the middle of it.
process.once("SIGTERM", () => process.exit(0));

const key = process.env["TEST_KEY"];
const request = {
  environment: environment(),
  // The simulated service rejects unknown agents, like the real one.
  host: host("0.0.0"),
  model: { id: "kimi-for-coding", reasoning: true, input: ["text"] },
  options: { reasoning: "high", ...(key === undefined ? {} : { apiKey: key }) },
};
const context = { messages: [{ role: "user", content: "Say ok.", timestamp: 0 }] };
let text = "";
addon.startTurn(JSON.stringify(request), encodeContext(context), [], (ops) => {
  for (const [code, , piece] of ops) {
    if (code === OpCode.TextDelta) text += piece;
    if (code === OpCode.Done) process.stdout.write(JSON.stringify({ text }));
    if (code === OpCode.Failed) {
      const { code: kind, message } = JSON.parse(piece) as { code: string; message: string };
      process.stdout.write(JSON.stringify({ text, error: message, code: kind }));
    }
  }
});
