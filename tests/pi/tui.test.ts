/** Screens: real Pi in a terminal. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Simulator } from "../simulator/index.ts";
import type { Home } from "../support/pi.ts";
import { Terminal } from "../support/terminal.ts";
import { withPi } from "../support/with-pi.ts";

let simulator: Simulator;
let home: Home;

withPi((...given) => ([simulator, home] = given));

test("screen: prompt, tool call, Escape, prompt → each is shown, and Escape stops the answer", async () => {
  const terminal = new Terminal(["--no-session", "--model", "kimi-coding/kimi-for-coding"], {
    home,
    env: { KIMI_CODE_BASE_URL: simulator.baseUrl, KIMI_API_KEY: simulator.apiKey },
  });
  try {
    await terminal.waitFor(/kimi-for-coding/);
    await terminal.submit("run: echo seen-$((40+2))");
    const screen = await terminal.waitFor(/The command printed: seen-42/);
    assert.match(screen, /\$ echo seen-\$\(\(40\+2\)\)/);
    assert.doesNotMatch(screen, /undefined|\[object|Error/);

    simulator.enqueue({
      steps: [{ text: "Counting sheep: " }, { repeat: { kind: "text", count: 9000, text: "sheep ", perSecond: 50 } }],
    });
    await terminal.submit("count sheep");
    await terminal.waitFor(/Counting sheep: sheep sheep/);
    terminal.press("Escape");
    await terminal.waitFor(/abort/i);

    simulator.enqueue({ steps: [{ text: "Still here." }] });
    await terminal.submit("and now?");
    await terminal.waitFor(/Still here\./);
  } finally {
    terminal.close();
  }
});
