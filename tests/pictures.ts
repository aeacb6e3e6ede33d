/** `npm run pictures`: the pictures of docs/pictures, taken of real Pi in a terminal while the simulator answers. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { call, startSimulator, text, think } from "./simulator/index.ts";
import { Home, ROOT } from "./support/pi.ts";
import { screenshot, SEQUENCE } from "./support/screenshot.ts";
import { Terminal } from "./support/tmux.ts";

const COLUMNS = 100;
const FOLDER = join(ROOT, "docs", "pictures");

/** Without what Pi has to say about this terminal and the tools of this machine. */
function conversation(screen: string): string {
  const rows = screen.split("\n");
  const asked = rows.findIndex((row) => row.includes("What does greet.py do?"));
  const warned = rows.findIndex((row, at) => at > asked && row.includes("Warning: tmux"));
  const kept = (at: number): boolean => at >= asked - 1 && (warned < 0 || at < warned - 1 || at > warned + 1);
  // A row that goes leaves its colours behind: they hold for the rows after it.
  const colours = (row: string): string => {
    const changes = row.split(SEQUENCE).slice(1);
    return changes.map((piece) => SEQUENCE + piece.slice(0, piece.indexOf("m") + 1)).join("");
  };
  return rows.map((row, at) => (kept(at) ? `${row}\n` : colours(row))).join("");
}

const simulator = await startSimulator();
const home = new Home();
home.settings({ quietStartup: true });
writeFileSync(
  join(home.cwd, "greet.py"),
  'import sys\n\nname = sys.argv[1] if len(sys.argv) > 1 else "you"\nprint(f"Hello, {name}!")\n',
);
const terminal = new Terminal(["--no-session", "--model", "kimi-coding/kimi-for-coding", "--thinking", "low"], {
  home,
  env: {
    HOME: home.path, // so that the folder reads ~/work
    KIMI_CODE_BASE_URL: simulator.baseUrl,
    KIMI_API_KEY: simulator.apiKey,
    COLORTERM: "truecolor",
  },
  columns: COLUMNS,
  rows: 40,
});
try {
  mkdirSync(FOLDER, { recursive: true });
  simulator.enqueue(
    {
      steps: [
        think("The file decides. I read it, and run it to be sure."),
        call("read", { path: "greet.py" }),
        call("bash", { command: "python3 greet.py Ada" }),
      ],
    },
    {
      steps: [
        text(
          "`greet.py` greets whoever is named first on its command line:\n\n- `python3 greet.py Ada` prints **Hello, Ada!**\n- without a name it prints **Hello, you!**",
        ),
      ],
    },
  );
  await terminal.waitFor(/kimi-for-coding/);
  await terminal.submit("What does greet.py do?");
  await terminal.waitFor(/Hello, you!/);
  await sleep(2000); // until footer and spinner have settled
  const title = "Kimi reads a file, runs it and answers, in Pi";
  writeFileSync(join(FOLDER, "answer.svg"), screenshot(conversation(terminal.coloured()), COLUMNS, title));
} finally {
  terminal.close();
  home.remove();
  await simulator.close();
}
