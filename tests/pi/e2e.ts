/**
 * Checks the real service: one plain answer and one tool call, through real Pi with a temporary home.
 *
 * Exits with 2 and says what is missing if there is no credential.
 */
import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { buildAddon } from "../../npm/build.mjs";
import { Home, messages, runPi, textOf } from "../support/pi.ts";

const key = process.env["KIMI_API_KEY"]?.trim();
// The login stays in the directory of the official client, so that a refresh reaches that client too.
const kimiHome = process.env["KIMI_CODE_HOME"] ?? join(homedir(), ".kimi-code");
const hasLogin = existsSync(join(kimiHome, "credentials"));
if (!key && !hasLogin) {
  console.error(
    "npm run e2e talks to the real service and needs a credential: set KIMI_API_KEY to a Kimi Code key, " +
      "or sign in with the kimi CLI.",
  );
  process.exit(2);
}

buildAddon(true);
const home = new Home();
const env = {
  KIMI_API_KEY: key || undefined,
  KIMI_CODE_HOME: kimiHome,
  KIMI_CODE_BASE_URL: process.env["KIMI_CODE_BASE_URL"],
};
let failed = false;
try {
  for (const [prompt, expected] of [
    ["Answer with the single word: ready", /ready/i],
    ["Use the bash tool to run `echo $((6*7))` and tell me the number.", /42/],
  ] as const) {
    const { events } = await runPi(
      ["--mode", "json", "--no-session", "--model", "kimi-coding/kimi-for-coding", prompt],
      {
        home,
        env,
        timeoutMs: 180_000,
      },
    );
    const last = messages(events).at(-1);
    const good = last?.stopReason === "stop" && expected.test(textOf(last));
    console.log(`${good ? "ok  " : "FAIL"} ${prompt}\n     ${last?.errorMessage ?? textOf(last)}`);
    failed ||= !good;
  }
} finally {
  home.remove();
}
process.exitCode = failed ? 1 : 0;
