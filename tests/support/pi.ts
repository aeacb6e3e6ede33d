/**
 * Runs the real Pi with our extension, headless, in a temporary home (docs/pi-contract.md#headless-runs).
 *
 * Everything that Pi reads or writes is in one temporary directory, which is removed after the test.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { piCli } from "./pi-versions.ts";

export const ROOT = join(import.meta.dirname, "..", "..");

/** Command line program of the Pi version of this run. */
export const PI_CLI = piCli();

/** Limit for a run of Pi and for each wait, in milliseconds. */
const TIMEOUT_MS = 60_000;

export interface PiEvent {
  type: string;
  [member: string]: unknown;
}

export interface PiResult {
  code: number | null;
  stdout: string;
  stderr: string;
  /** The JSON lines of stdout; empty outside of JSON mode. */
  events: PiEvent[];
}

/** A temporary home: HOME, Pi's agent directory, a working directory. */
export class Home {
  readonly path = mkdtempSync(join(tmpdir(), "kimi-test-"));
  readonly agent = this.#made("agent");
  readonly home = this.#made("home");
  readonly cwd = this.#made("work");
  readonly tmp = this.#made("tmp");

  #made(name: string): string {
    const path = join(this.path, name);
    mkdirSync(path, { recursive: true });
    return path;
  }

  /** Returns an environment without anything of the user of this machine. */
  env(extra: Record<string, string | undefined> = {}): NodeJS.ProcessEnv {
    const clean = Object.entries(process.env).filter(
      ([name]) => !/^(KIMI_|MOONSHOT_|PI_|NODE_|npm_|.*_PROXY$|.*_proxy$|ANTHROPIC_|OPENAI_)/.test(name),
    );
    const all: NodeJS.ProcessEnv = {
      ...Object.fromEntries(clean),
      HOME: this.home,
      USERPROFILE: this.home,
      TMPDIR: this.tmp,
      PI_CODING_AGENT_DIR: this.agent,
      PI_OFFLINE: "1",
      // Most tests count the requests of a turn; those of the model list are tested in tests/pi/models.test.ts.
      KIMI_CODE_MODEL_LIST: "off",
      PI_TELEMETRY: "0",
      PI_SKIP_VERSION_CHECK: "1",
      ...extra,
    };
    // A pseudo terminal would pass undefined on as a text.
    return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
  }

  /** Writes Pi's settings. */
  settings(settings: Record<string, unknown>): void {
    writeFileSync(join(this.agent, "settings.json"), JSON.stringify(settings));
  }

  remove(): void {
    // Windows keeps the file of an addon that this process has loaded. Retries would be repeated in every folder above that file,
    // which takes hours, so there the home may stay.
    const onWindows = process.platform === "win32";
    try {
      rmSync(this.path, { recursive: true, force: true, maxRetries: onWindows ? 0 : 5, retryDelay: 100 });
    } catch (error) {
      if (!onWindows) throw error;
    }
  }
}

export interface PiOptions {
  home: Home;
  env?: Record<string, string | undefined>;
  /** Extensions to load. Default: this checkout. `installed`: those of Pi's settings. */
  extensions?: string[] | "installed";
  cwd?: string;
  timeoutMs?: number;
  /** Path of another Pi's program. Default: the one in package.json. */
  cli?: string;
}

export function piArguments(args: string[], options: PiOptions): string[] {
  const cli = options.cli ?? PI_CLI;
  if (options.extensions === "installed") return [cli, ...args];
  const extensions = (options.extensions ?? [ROOT]).flatMap((path) => ["-e", path]);
  return [cli, "-ne", ...extensions, ...args];
}

/** Runs Pi to its end with stdin closed. */
export async function runPi(args: string[], options: PiOptions): Promise<PiResult> {
  const child = spawn(process.execPath, piArguments(args, options), {
    cwd: options.cwd ?? options.home.cwd,
    env: options.home.env(options.env),
    stdio: ["ignore", "pipe", "pipe"],
  });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const timer = setTimeout(() => child.kill("SIGKILL"), options.timeoutMs ?? TIMEOUT_MS);
  const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
  clearTimeout(timer);
  return { code, stdout, stderr, events: stdout.startsWith("{") ? parseLines(stdout) : [] };
}

function parseLines(text: string): PiEvent[] {
  return text
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line) as PiEvent);
}

/** A Pi in RPC mode. */
export class RpcPi {
  readonly events: PiEvent[] = [];
  readonly #child: ChildProcess;
  #pending = "";
  stderr = "";
  #serial = 0;

  constructor(args: string[], options: PiOptions) {
    this.#child = spawn(process.execPath, piArguments(["--mode", "rpc", ...args], options), {
      cwd: options.cwd ?? options.home.cwd,
      env: options.home.env(options.env),
      stdio: ["pipe", "pipe", "pipe"],
    });
    this.#child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      const lines = (this.#pending + text).split("\n");
      this.#pending = lines.pop() ?? "";
      this.events.push(...lines.filter((line) => line.startsWith("{")).map((line) => JSON.parse(line) as PiEvent));
    });
    this.#child.stderr?.setEncoding("utf8").on("data", (text: string) => (this.stderr += text));
  }

  /** Id of Pi's process. */
  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Sends a command and returns its response. */
  async command(command: { type: string; [member: string]: unknown }): Promise<PiEvent> {
    this.#serial += 1;
    const id = `c${this.#serial}`;
    const from = this.events.length;
    this.#child.stdin?.write(`${JSON.stringify({ id, ...command })}\n`);
    return this.waitFor((event) => event.type === "response" && event["id"] === id, from);
  }

  /** Answers a question of the extension. */
  answer(response: { type: "extension_ui_response"; id: unknown; [member: string]: unknown }): void {
    this.#child.stdin?.write(`${JSON.stringify(response)}\n`);
  }

  /** Waits for the first event after position `from` that matches. */
  async waitFor(matches: (event: PiEvent) => boolean, from = 0, timeoutMs = TIMEOUT_MS): Promise<PiEvent> {
    const end = Date.now() + timeoutMs;
    for (;;) {
      const found = this.events.slice(from).find(matches);
      if (found) return found;
      if (Date.now() > end || this.#child.exitCode !== null) {
        const seen = this.events.slice(from).map(({ type, statusText: text }) => `${type}${text ? ` "${text}"` : ""}`);
        throw new Error(`Pi (RPC) did not send the expected event; it sent ${seen.join(", ")}; stderr: ${this.stderr}`);
      }
      await sleep(5);
    }
  }

  /** Sends a prompt and waits until Pi has settled; returns the events of this prompt. */
  async prompt(message: string, more: Record<string, unknown> = {}, timeoutMs = TIMEOUT_MS): Promise<PiEvent[]> {
    const from = this.events.length;
    await this.command({ type: "prompt", message, ...more });
    await this.waitFor((event) => event.type === "agent_settled", from, timeoutMs);
    return this.events.slice(from);
  }

  /** Chooses in a dialog of an extension; without a value, as if the user had left it. */
  choose({ id }: PiEvent, value?: string): void {
    this.answer({ type: "extension_ui_response", id, ...(value === undefined ? { cancelled: true } : { value }) });
  }

  async close(): Promise<void> {
    if (this.#child.exitCode !== null) return;
    const gone = new Promise((resolve) => this.#child.once("close", resolve));
    this.#child.stdin?.end();
    this.#child.kill("SIGTERM");
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), 3000);
    await gone;
    clearTimeout(timer);
  }
}

/** Content blocks of an assistant message event. */
export interface Block {
  type: string;
  [member: string]: unknown;
}

/** A message as Pi reports it. */
export interface Message {
  role: string;
  content: Block[];
  stopReason?: string;
  errorMessage?: string;
  usage?: { input: number; output: number; cacheRead: number; cost: { total: number } };
  [member: string]: unknown;
}

/** Returns all finished messages of a role, in order. */
export function messages(events: PiEvent[], role = "assistant"): Message[] {
  return events
    .filter((event) => event.type === "message_end")
    .map((event) => event["message"] as Message)
    .filter((message) => message.role === role);
}

/** Returns the visible text of a message. */
export function textOf(message: Message | undefined): string {
  return (message?.content ?? [])
    .filter((block) => block.type === "text")
    .map((block) => String(block["text"]))
    .join("");
}

/** Returns the JSON body of a request that the simulator logged. */
export function bodyOf<T>(record: { json: unknown } | undefined): T {
  if (record === undefined) throw new Error("there was no such request");
  return record.json as T;
}
