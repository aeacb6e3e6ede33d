/**
 * Makes the pictures in docs/pictures from real Pi and the simulator: `npm run pictures [-- directory]`.
 *
 * `--all` takes every screen at 60, 100 and 160 columns, dark and light. Addresses and folders of the test machine are
 * replaced by typical ones.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { call, PlanWindows, ratioView, type Scenario, startSimulator, text, think } from "../simulator/index.ts";
import { PALETTES, svg } from "../support/ansi-svg.ts";
import { Home, ROOT } from "../support/pi.ts";
import { Kimi } from "../../index.ts";
import { Terminal } from "../support/terminal.ts";

const all = process.argv.includes("--all");
const named = process.argv.slice(2).find((word) => !word.startsWith("--"));
const directory = named ?? join(ROOT, "docs", "pictures");
mkdirSync(directory, { recursive: true });
const simulator = await startSimulator();

const GREET = 'import sys\n\nname = sys.argv[1] if len(sys.argv) > 1 else "you"\nprint(f"Hello, {name}!")\n';

const ANSWER: Scenario[] = [
  {
    steps: [
      think("The file decides. I read it, and run it to be sure."),
      call("read", { path: "greet.py" }),
      call("bash", { command: "python3 greet.py Ada" }),
    ],
  },
  {
    steps: [
      text("`greet.py` greets the first name on its command line:\n\n"),
      text("- `python3 greet.py Ada` prints **Hello, Ada!**\n- without a name it prints **Hello, you!**"),
    ],
  },
];

async function take(columns: number, theme: keyof typeof PALETTES, suffix: string): Promise<void> {
  simulator.reset();
  simulator.plan.usage = () => ratioView({ fiveHours: 0.83 });
  const home = new Home();
  home.settings({ theme });
  writeFileSync(join(home.cwd, "greet.py"), GREET);
  const terminal = new Terminal(["--no-session", "--model", "kimi-coding/kimi-for-coding"], {
    home,
    env: { KIMI_CODE_BASE_URL: simulator.baseUrl, KIMI_API_KEY: simulator.apiKey, COLORTERM: "truecolor" },
    columns,
    rows: 45,
  });
  const save = (name: string, from: RegExp, above = 0): void => {
    const rows = ordinary(terminal.screen(true), home).trimEnd().split("\n");
    const first = rows.findIndex((row) => from.test(row)) - above;
    const picture = paint(rows.slice(0, first).join("")) + rows.slice(first).join("\n");
    writeFileSync(join(directory, `${name}${suffix}.svg`), svg(picture, columns, PALETTES[theme]));
  };
  try {
    await terminal.waitFor(/Kimi 5h/);
    await terminal.submit("/kimi-usage");
    await terminal.waitFor(/code 21%/);
    await sleep(500);
    save("usage", /Simulated User|5-hour/);
    simulator.enqueue({ steps: [{ text: "Two files changed, all tests pass." }] });
    await terminal.submit("is everything green?");
    await terminal.waitFor(/all tests pass/);
    await sleep(1000);
    save("status", /is everything green/);
    await terminal.submit("/kimi-settings");
    await terminal.waitFor(/Kimi settings[^]*code 21%[^]*Changes go to/);
    terminal.press("Down");
    await sleep(500);
    save("settings", /Kimi settings/);
    terminal.press("Escape");
    await terminal.waitFor(/all tests pass/);
    simulator.enqueue(...ANSWER);
    await terminal.submit("What does greet.py do?");
    await terminal.waitFor(/Hello, you!/);
    await sleep(1000);
    save("answer", /What does greet/, 1);
    await terminal.submit("/kimi-cache");
    await terminal.waitFor(/prompt now[^]*messages/);
    await sleep(500);
    save("cache", /Prompt cache of/);
    await quotaPictures(terminal, home, save);
  } finally {
    terminal.close();
    home.remove();
  }
}

/** A window that is used up: the dialog, the session that waits, and what used the plan. */
async function quotaPictures(
  terminal: Terminal,
  home: Home,
  save: (name: string, from: RegExp, above?: number) => void,
): Promise<void> {
  const weights = { uncached: 4e-4, cached: 1e-5, output: 1e-3 };
  const opensAt = Date.now() + 2.2 * 3_600_000;
  const windows = new PlanWindows(() => [
    { name: "limit_5h", percent: 41, opensAt, lengthMs: 5 * 3_600_000, weights },
    { name: "limit_7d", percent: 12, opensAt: opensAt + 90 * 3_600_000, lengthMs: 168 * 3_600_000, weights },
  ]);
  simulator.plan.windows = windows;
  // Other sessions, so that costs are known.
  const env = { HOME: home.home, PI_CODING_AGENT_DIR: home.agent, KIMI_CODE_IDENTITY: "kimi-code" };
  const kimi = new Kimi({ baseUrl: simulator.baseUrl, apiKey: simulator.apiKey, env });
  for (let turn = 0; turn < 24; turn += 1) {
    simulator.enqueue({ steps: [text("word ".repeat(40 + ((turn * 37) % 300)))] });
    const question = `word${turn} `.repeat(500 + ((turn * 911) % 3_000));
    await kimi.chat(question, { sessionId: turn % 3 === 0 ? "one" : turn % 7 === 0 ? "two" : "three" }).final();
    await kimi.usage();
  }
  await terminal.submit("/kimi-usage --history 7d --by session");
  await terminal.waitFor(/Usage of the last 7d[^]*session [0-9a-f]/);
  await sleep(500);
  save("usage-history", /Usage of the last 7d/);
  for (const window of windows.of(simulator.apiKey)) if (window.name === "limit_5h") window.percent = 100;
  await terminal.submit("Fix the failing test.");
  await terminal.waitFor(/is used up[^]*Always wait/);
  await sleep(500);
  save("quota-dialog", /is used up/, 1);
  terminal.press("Enter");
  await terminal.waitFor(/continues[^]*continues/);
  await sleep(500);
  save("quota-parked", /Fix the failing test/, 1);
  terminal.press("Escape");
}

/** Returns the color changes of omitted rows, which apply to the rows after them. */
function paint(screen: string): string {
  const changes = screen.split("\u001b[").slice(1);
  return changes.map((piece) => `\u001b[${piece.slice(0, piece.indexOf("m") + 1)}`).join("");
}

/** Replaces addresses and folders of the test machine. */
function ordinary(screen: string, home: Home): string {
  const names = [
    [simulator.baseUrl, "https://api.kimi.com/coding"],
    [home.cwd, "~/project"],
    [home.home, "~"],
  ] as const;
  return names.reduce((text, [from, to]) => text.replaceAll(from, to), screen);
}

try {
  if (!all) await take(100, "dark", "");
  else {
    for (const columns of [60, 100, 160]) {
      for (const theme of ["dark", "light"] as const) await take(columns, theme, `-${columns}-${theme}`);
    }
  }
} finally {
  await simulator.close();
}
