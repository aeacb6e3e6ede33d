/**
 * Drives the real Pi in a terminal: a pseudo terminal runs it, and a headless screen shows what it prints.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { type IPty, spawn } from "@lydell/node-pty";
import xterm from "@xterm/headless";
import { type Home, PI_CLI, ROOT } from "./pi.ts";

export interface TerminalOptions {
  home: Home;
  env?: Record<string, string | undefined>;
  /** Extensions to load. Default: this checkout. `installed`: those of Pi's settings. */
  extensions?: string[] | "installed";
  columns?: number;
  rows?: number;
}

/** What a terminal sends for a key. */
const KEYS: Record<string, string> = {
  Enter: "\r",
  Escape: "\u001b",
  Tab: "\t",
  Backspace: "\u007f",
  Up: "\u001b[A",
  Down: "\u001b[B",
  Right: "\u001b[C",
  Left: "\u001b[D",
};

/** A program reads Escape and what follows at once as one key; this pause in milliseconds keeps them apart. */
const ESCAPE_PAUSE_MS = 100;

/** A terminal in which Pi runs. */
export class Terminal {
  readonly #screen: InstanceType<typeof xterm.Terminal>;
  readonly #pty: IPty;
  #running = true;
  #input = Promise.resolve();

  constructor(args: string[], { home, env = {}, extensions = [ROOT], columns = 110, rows = 35 }: TerminalOptions) {
    const loaded = extensions === "installed" ? [] : ["-ne", ...extensions.flatMap((path) => ["-e", path])];
    this.#screen = new xterm.Terminal({ cols: columns, rows, allowProposedApi: true });
    this.#pty = spawn(process.execPath, [PI_CLI, ...loaded, ...args], {
      name: "xterm-256color",
      cols: columns,
      rows,
      cwd: home.cwd,
      env: home.env(env),
    });
    this.#pty.onData((data) => this.#screen.write(data));
    this.#pty.onExit(() => (this.#running = false));
    // Answers to queries, such as for the position of the cursor.
    this.#screen.onData((data) => this.type(data));
  }

  /** Returns the id of the process in the terminal. */
  get pid(): number {
    return this.#pty.pid;
  }

  /** Returns the current screen; with `painted`, escape sequences of colors and blanks at the end of rows are kept. */
  screen(painted = false): string {
    const { active } = this.#screen.buffer;
    const rows = Array.from({ length: this.#screen.rows }, (_, row) => active.getLine(active.baseY + row));
    return `${rows.map((row) => (painted ? paintedRow(row) : (row?.translateToString(true) ?? ""))).join("\n")}\n`;
  }

  type(text: string): void {
    this.#input = this.#send(text, this.#input);
  }

  async #send(text: string, earlier: Promise<void>): Promise<void> {
    await earlier;
    if (this.#running) this.#pty.write(text);
    if (text === KEYS["Escape"]) await sleep(ESCAPE_PAUSE_MS);
  }

  /** Presses a key: Enter, Escape, Tab, Backspace, an arrow, or C-c for Ctrl+C. */
  press(key: string): void {
    const sequence = /^C-[a-z]$/.test(key) ? String.fromCharCode(key.charCodeAt(2) & 0x1f) : KEYS[key];
    if (sequence === undefined) throw new Error(`no such key: ${key}`);
    this.type(sequence);
  }

  /** Waits until the screen matches and returns it. */
  async waitFor(pattern: RegExp, timeoutMs = 60_000): Promise<string> {
    const end = Date.now() + timeoutMs;
    for (;;) {
      const screen = this.screen();
      // Pi marks the start and the end of a frame; in between, only a part of it is on the screen.
      if (!this.#screen.modes.synchronizedOutputMode && pattern.test(screen)) return screen;
      if (Date.now() > end) throw new Error(`the screen never showed ${pattern}; it shows:\n${screen}`);
      await sleep(50);
    }
  }

  /** Types a prompt or command and submits it once it is on the screen. The pause is for the autocomplete list. */
  async submit(text: string): Promise<void> {
    this.type(text);
    await this.waitFor(new RegExp(text.trim().replaceAll(/\W/g, "\\$&")));
    await sleep(300);
    this.press("Enter");
  }

  /** Kills the program, so that it sends no request to the next test. */
  close(): void {
    if (this.#running) this.#pty.kill(process.platform === "win32" ? undefined : "SIGKILL");
    this.#screen.dispose();
  }
}

type Row = ReturnType<InstanceType<typeof xterm.Terminal>["buffer"]["active"]["getLine"]>;
type Cell = NonNullable<ReturnType<NonNullable<Row>["getCell"]>>;

/** Returns a row of the screen with the escape sequences of its colors and styles. */
function paintedRow(row: Row): string {
  if (row === undefined) return "";
  let painted = "";
  let visible = 0;
  let before = "0";
  for (let column = 0; column < row.length; column += 1) {
    const cell = row.getCell(column);
    // The second half of a wide character.
    if (cell === undefined || cell.getWidth() === 0) continue;
    const style = styleOf(cell);
    if (style !== before) painted += `\u001b[${style === "0" ? "0" : `0;${style}`}m`;
    before = style;
    painted += cell.getChars() || " ";
    if (style !== "0" || cell.getChars().trim() !== "") visible = painted.length;
  }
  const shown = painted.slice(0, visible);
  return shown.includes("\u001b") ? `${shown}\u001b[0m` : shown;
}

/** Returns the parameters of the SGR sequence for the style of a cell. */
function styleOf(cell: Cell): string {
  const codes = [
    ...(cell.isBold() ? [1] : []),
    ...(cell.isDim() ? [2] : []),
    ...(cell.isItalic() ? [3] : []),
    ...(cell.isUnderline() ? [4] : []),
    ...(cell.isInverse() ? [7] : []),
    ...colorOf(38, cell.isFgRGB(), cell.isFgPalette(), cell.getFgColor()),
    ...colorOf(48, cell.isBgRGB(), cell.isBgPalette(), cell.getBgColor()),
  ];
  return codes.join(";") || "0";
}

function colorOf(code: number, rgb: boolean, palette: boolean, color: number): number[] {
  if (rgb) return [code, 2, (color >> 16) & 255, (color >> 8) & 255, color & 255];
  return palette ? [code, 5, color] : [];
}
