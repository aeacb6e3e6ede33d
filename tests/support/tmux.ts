/**
 * Drives the real Pi in a terminal: tmux types and reads the screen.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { type Home, PI_CLI, ROOT } from "./pi.ts";

export interface TerminalOptions {
  home: Home;
  env?: Record<string, string | undefined>;
  extensions?: string[];
  columns?: number;
  rows?: number;
}

/** A terminal in which Pi runs. */
export class Terminal {
  readonly #socket: string;

  constructor(args: string[], { home, env = {}, extensions = [ROOT], columns = 110, rows = 35 }: TerminalOptions) {
    this.#socket = `kimi-${process.pid}-${Math.random().toString(36).slice(2)}`;
    const extension = extensions.flatMap((path) => ["-e", path]);
    const command = [process.execPath, PI_CLI, "-ne", ...extension, ...args];
    execFileSync(
      "tmux",
      [
        "-L",
        this.#socket,
        "-f",
        "/dev/null",
        "new-session",
        "-d",
        "-s",
        "pi",
        "-x",
        `${columns}`,
        "-y",
        `${rows}`,
        ...command,
      ],
      { cwd: home.cwd, env: { ...home.env(env), TERM: "xterm-256color" } },
    );
  }

  static get available(): boolean {
    return spawnSync("tmux", ["-V"]).status === 0;
  }

  /** Returns the id of the process in the terminal. */
  get pid(): number {
    const list = ["-L", this.#socket, "list-panes", "-t", "pi", "-F", "#{pane_pid}"];
    return Number(execFileSync("tmux", list, { encoding: "utf8" }));
  }

  /** Returns the current screen; with `painted`, escape sequences of colors and blanks at the end of rows are kept. */
  screen(painted = false): string {
    const options = ["-p", ...(painted ? ["-e", "-N"] : []), "-t", "pi"];
    return execFileSync("tmux", ["-L", this.#socket, "capture-pane", ...options], { encoding: "utf8" });
  }

  type(text: string): void {
    execFileSync("tmux", ["-L", this.#socket, "send-keys", "-t", "pi", "-l", text]);
  }

  /** Presses a key by tmux' name: Enter, Escape, Up, C-c. */
  press(key: string): void {
    execFileSync("tmux", ["-L", this.#socket, "send-keys", "-t", "pi", key]);
  }

  /** Waits until the screen matches and returns it. */
  async waitFor(pattern: RegExp, timeoutMs = 60_000): Promise<string> {
    const end = Date.now() + timeoutMs;
    for (;;) {
      const screen = this.screen();
      if (pattern.test(screen)) return screen;
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
    try {
      process.kill(this.pid, "SIGKILL");
    } catch {
      // The program has ended.
    }
    spawnSync("tmux", ["-L", this.#socket, "kill-server"]);
  }
}
