/** Drives the real Pi in a terminal: tmux types, and reads the screen. */
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

  /** The process that runs in the terminal. */
  get pid(): number {
    const list = ["-L", this.#socket, "list-panes", "-t", "pi", "-F", "#{pane_pid}"];
    return Number(execFileSync("tmux", list, { encoding: "utf8" }));
  }

  /** What the screen shows now; `painted` with the escape sequences of its colours, and painted blanks at the end of rows. */
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

  /** Submits a prompt or command once it is on the screen; the pause lets an autocomplete list settle. */
  async submit(text: string): Promise<void> {
    this.type(text);
    await this.waitFor(new RegExp(text.trim().replaceAll(/\W/g, "\\$&")));
    await sleep(300);
    this.press("Enter");
  }

  /** Ends the program at once, so that it sends no request during the next test. */
  close(): void {
    try {
      process.kill(this.pid, "SIGKILL");
    } catch {
      // It has already ended.
    }
    spawnSync("tmux", ["-L", this.#socket, "kill-server"]);
  }
}
