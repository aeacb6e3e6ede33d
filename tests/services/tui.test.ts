/** Kimi's tools in real Pi, in terminals of several widths. */
import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { call, type Simulator, text } from "../simulator/index.ts";
import type { Home } from "../support/pi.ts";
import { Terminal } from "../support/terminal.ts";
import { withPi } from "../support/with-pi.ts";

let simulator: Simulator;
let home: Home;

withPi((...given) => {
  [simulator, home] = given;
  const { access, refresh } = simulator.oauth.login();
  const entry = { type: "oauth", access, refresh, expires: Date.now() + 900_000 };
  writeFileSync(join(home.agent, "auth.json"), JSON.stringify({ "kimi-coding": entry }));
});

function enable(collapsed: boolean): void {
  mkdirSync(join(home.home, ".pi"), { recursive: true });
  const names = ["moonshot_search", "moonshot_fetch", "kimi_datasource"];
  const tools = Object.fromEntries(names.map((name) => [name, { enabled: true, default_collapsed: collapsed }]));
  writeFileSync(join(home.home, ".pi", "pi-provider-kimi-code.json"), JSON.stringify({ tools }));
}

function terminal(columns: number): Terminal {
  return new Terminal(["--no-session", "--model", "kimi-coding/kimi-for-coding"], {
    home,
    columns,
    rows: 100,
    env: { KIMI_CODE_BASE_URL: simulator.baseUrl, KIMI_CODE_OAUTH_HOST: simulator.oauthHost },
  });
}

function script(): void {
  const params = { ticker: "600519.SH", file_path: "prices.csv" };
  simulator.enqueue(
    { steps: [call("moonshot_search", { query: "月之暗面 K3 发布" })] },
    { steps: [call("moonshot_fetch", { url: "https://example.com/页" })] },
    {
      steps: [
        call("kimi_datasource", { data_source_name: "stock_finance_data", api_name: "get_history_price", params }),
      ],
    },
    { steps: [call("moonshot_fetch", { url: "file:///etc/passwd" })] },
    { steps: [text("All done.")] },
  );
}

for (const columns of [46, 110]) {
  test(`screen of ${columns} columns: results → a preview until expanded`, async () => {
    enable(true);
    script();
    const pi = terminal(columns);
    try {
      await pi.waitFor(/kimi-for-coding/, 60_000);
      await pi.submit("go");
      const short = await pi.waitFor(/All done\./, 60_000);
      assert.match(short, /moonshot_search 月之暗面 K3 发布/);
      assert.match(short, / 1\. What is new about 月之暗面 K3 发布/);
      assert.match(short, /2 more results \(ctrl\+o to expand\)/);
      assert.match(short, /Simulated page\s+\d+B, 15 lines \(ctrl\+o to expand\)/);
      assert.match(short, /wrote prices\.csv \(62B\)/);
      assert.match(short.replace(/\s+/g, " "), /only http:\/\/ and https:\/\/ can be fetched, not file:/);
      assert.doesNotMatch(short, /news\.ycombinator\.com|undefined|\[object/);
      pi.press("C-o");
      const whole = await pi.waitFor(/news\.ycombinator\.com/);
      assert.match(whole, /│ 2026 │ 14\.7\s+│/);
      assert.match(whole, /Files:\s+- prices\.csv \(62B\) written/);
    } finally {
      pi.close();
    }
  });
}

test("screen with default_collapsed off: results → complete from the start", async () => {
  enable(false);
  script();
  const pi = terminal(100);
  try {
    await pi.waitFor(/kimi-for-coding/, 60_000);
    await pi.submit("go");
    const screen = await pi.waitFor(/All done\./, 60_000);
    assert.match(screen, /news\.ycombinator\.com/);
    assert.match(screen, /第一节 Section/);
    assert.doesNotMatch(screen, /to expand/);
  } finally {
    pi.close();
  }
});
