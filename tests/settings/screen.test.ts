/** `/kimi-settings` in real Pi, in narrow and wide terminals, with dark and light themes. */
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { Simulator } from "../simulator/index.ts";
import type { Home } from "../support/pi.ts";
import { Terminal } from "../support/terminal.ts";
import { withPi } from "../support/with-pi.ts";

let simulator: Simulator;
let home: Home;
withPi((...given) => ([simulator, home] = given));

/** Keeps the screens in this directory, if set. */
const KEEP = process.env["KEEP_SCREENS"];

function keep(name: string, screen: string): void {
  if (KEEP === undefined) return;
  mkdirSync(KEEP, { recursive: true });
  writeFileSync(join(KEEP, `${name}.txt`), screen);
}

async function within(
  columns: number,
  theme: "dark" | "light",
  run: (terminal: Terminal) => Promise<void>,
): Promise<void> {
  home.settings({ theme });
  const terminal = new Terminal(["--no-session", "--model", "kimi-coding/kimi-for-coding"], {
    home,
    env: { KIMI_CODE_BASE_URL: simulator.baseUrl, KIMI_API_KEY: simulator.apiKey },
    columns,
    rows: 45,
  });
  try {
    await terminal.waitFor(/kimi-for-coding/);
    await run(terminal);
  } finally {
    terminal.close();
  }
}

for (const columns of [60, 100, 160]) {
  for (const theme of ["dark", "light"] as const) {
    test(`settings screen, ${columns} columns, ${theme} theme → readable`, async () => {
      await within(columns, theme, async (terminal) => {
        await terminal.submit("/kimi-settings");
        // The footer needs an answer of its own.
        const screen = await terminal.waitFor(/Extra usage[^]*Changes go to[^]*Kimi 5h 9% · wk 13%/);
        keep(`settings-${columns}-${theme}`, screen);
        assert.match(screen, /Simulated User · Allegretto \(Lv 20\)/);
        assert.match(screen, /5-hour window +[█▏▎▍▌▋▊▉]+░+ +9% used/);
        assert.match(screen, /kimi 10% · code 21%/);
        assert.doesNotMatch(screen, /undefined|NaN|\[object/);
        for (const line of screen.split("\n")) assert.ok(line.trimEnd().length <= columns, line);
      });
    });
  }
}

test("settings screen: a change → takes effect at once and is written to the file", async () => {
  await within(100, "dark", async (terminal) => {
    await terminal.submit("/kimi-settings");
    await terminal.waitFor(/Changes go to/);
    terminal.type("moonshot_fetch.en");
    await terminal.waitFor(/moonshot_fetch\.enabled +off/);
    terminal.press("Enter");
    await terminal.waitFor(/moonshot_fetch\.enabled +on/);
    for (let n = 0; n < 20; n += 1) terminal.press("Backspace");
    terminal.type("threshold");
    await terminal.waitFor(/uploads\.thresholdBytes +1 MiB/);
    terminal.press("Enter");
    await terminal.waitFor(/Expected a size in bytes/);
    terminal.type("lots");
    terminal.press("Enter");
    keep("bad-value", await terminal.waitFor(/uploads\.thresholdBytes cannot be "lots", expected a size/));
    terminal.press("Enter");
    await terminal.waitFor(/Expected a size in bytes/);
    terminal.type("2 MiB");
    terminal.press("Enter");
    await terminal.waitFor(/uploads\.thresholdBytes +2 MiB/);
    terminal.press("Escape");
    const file = JSON.parse(readFileSync(join(home.home, ".pi", "pi-provider-kimi-code.json"), "utf8")) as object;
    assert.deepEqual(Object.entries(file).slice(1), [
      ["tools", { moonshot_fetch: { enabled: true } }],
      ["uploads", { thresholdBytes: "2 MiB" }],
    ]);
  });
});

test("settings screen: service does not answer → usable, with a message", async () => {
  simulator.intercept("me", { delayMs: 30_000 });
  simulator.intercept("usages", { status: 503 }, { status: 503 });
  await within(100, "dark", async (terminal) => {
    await terminal.submit("/kimi-settings");
    const screen = await terminal.waitFor(/Usage: 503[^]*Changes go to/);
    assert.match(screen, /Account …/);
    keep("no-answer", await terminal.waitFor(/Account: timeout: Kimi did not answer within 8 s/));
  });
});
