/**
 * One cell of the fault matrix: a fault, a way of using the client, a stage of its own, and what was seen.
 *
 * Every cell has its own simulator, relay and home, so that cells can run side by side and every request belongs to one of them.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { Kimi, KimiError } from "../../index.ts";
import { type Simulator, startSimulator } from "../simulator/index.ts";
import { pause, text } from "../simulator/scenario.ts";
import { fakePng } from "../support/pictures.ts";
import type { Dialect } from "../support/turn.ts";
import type { Fault } from "./cases.ts";
import { deadPort, Relay } from "./relay.ts";

export const COLUMNS = [
  "chat, once",
  "chat, lasting",
  "chat, after output",
  "upload, once",
  "upload, lasting",
  "models",
  "services",
] as const;
export type Column = (typeof COLUMNS)[number];

/** What became of a call. */
export interface Seen {
  /** `answer`, `inline` (an answer, with the file inside the request), or the error's code. */
  outcome: string;
  /** How often it was asked; `undefined` where there was nobody to count. */
  requests: number | undefined;
  /** Milliseconds. */
  took: number;
  /** Promises that were broken. */
  problems: string[];
}

/** Short beside the real clocks, long beside what a busy machine takes for a healthy answer. */
const CLOCK_MS = 2000;
const BEFORE = "First words.";
const AFTER = " Second words.";
const PATHS = {
  openai: "/coding/v1/chat/completions",
  anthropic: "/coding/v1/messages",
  files: "/coding/v1/files",
  models: "/coding/v1/models",
  services: "/coding/v1/search",
};

/** Whether there is such a cell: what comes with a response head cannot come after output. */
export function exists({ place, ...fault }: Fault, column: Column): boolean {
  if (column === "chat, after output") {
    if (place === "wire") return "strike" in fault && fault.strike.at === "\r\n\r\n";
    return place === "stream";
  }
  if (place === "stream") return column.startsWith("chat");
  if (place === "world" && column.endsWith("once"))
    return "world" in fault && fault.world === "refused" && column.startsWith("chat");
  return true;
}

/** Runs a cell. */
export async function play(fault: Fault, column: Column, dialect: Dialect, homes: string): Promise<Seen> {
  const stage = await Stage.set(fault, column, dialect, homes);
  try {
    return await stage.run();
  } finally {
    await stage.strike();
  }
}

class Stage {
  readonly #fault: Fault;
  readonly #column: Column;
  readonly #dialect: Dialect;
  readonly #home: string;
  readonly #simulator: Simulator;
  #relay: Relay;
  #base: string;
  #rude: Server | undefined;
  #betweenAttempts = async (): Promise<void> => {};

  private constructor(
    fault: Fault,
    column: Column,
    dialect: Dialect,
    home: string,
    simulator: Simulator,
    relay: Relay,
  ) {
    this.#fault = fault;
    this.#column = column;
    this.#dialect = dialect;
    this.#home = home;
    this.#simulator = simulator;
    this.#relay = relay;
    this.#base = relay.origin;
  }

  static async set(fault: Fault, column: Column, dialect: Dialect, homes: string): Promise<Stage> {
    const home = mkdtempSync(join(homes, "cell-"));
    const simulator = await startSimulator({ identityGate: "off" });
    const stage = new Stage(fault, column, dialect, home, simulator, await Relay.to(simulator.origin));
    await stage.#prepare();
    return stage;
  }

  /** Takes everything down again. */
  async strike(): Promise<void> {
    this.#rude?.close();
    await this.#relay.close();
    await this.#simulator.close();
    rmSync(this.#home, { recursive: true, force: true });
  }

  async run(): Promise<Seen> {
    const start = performance.now();
    const seen = await (this.#column.startsWith("chat")
      ? this.#chat("hi")
      : this.#column.startsWith("upload")
        ? this.#upload()
        : this.#question());
    const took = performance.now() - start;
    if (this.#simulator.requests.some(({ path }) => path === "/coding/v1/x"))
      seen.problems.push("a redirect was followed");
    return { ...seen, took };
  }

  get #path(): string {
    if (this.#column.startsWith("chat")) return PATHS[this.#dialect];
    if (this.#column.startsWith("upload")) return PATHS.files;
    return this.#column === "models" ? PATHS.models : PATHS.services;
  }

  async #prepare(): Promise<void> {
    const fault = this.#fault;
    const times = this.#column.endsWith("once") || this.#column === "chat, after output" ? 1 : Infinity;
    const late = this.#column === "chat, after output";
    const answer = late ? [text(BEFORE), pause(150), text(AFTER)] : [text(BEFORE + AFTER)];
    this.#simulator.setDefault({ steps: answer });
    if (fault.place === "wire") {
      // In the middle of the second event.
      const strike = late ? { ...fault.strike, at: AFTER.slice(0, 7) } : fault.strike;
      this.#relay.rule = (path, ordinal) => (path === this.#path && ordinal <= times ? strike : undefined);
    }
    if (fault.place === "http") {
      const endpoint = { openai: "chat", anthropic: "messages" }[this.#dialect];
      const name = this.#column.startsWith("chat")
        ? endpoint
        : this.#column.startsWith("upload")
          ? "files"
          : this.#column;
      const answers = Array.from({ length: Math.min(times, 5) }, () => fault.answer);
      this.#simulator.intercept(name === "services" ? "search" : name, ...answers);
    }
    if (fault.place === "stream") {
      const scenario = { steps: late ? [text(BEFORE), pause(150), ...fault.steps] : fault.steps };
      if (times === 1) this.#simulator.enqueue(scenario);
      else this.#simulator.setDefault(scenario);
    }
    if (fault.place === "world") await this.#change(fault.world);
    this.#login();
  }

  async #change(world: "refused" | "unknown host" | "no TLS" | "broken TLS"): Promise<void> {
    if (world === "unknown host") this.#base = "http://kimi.invalid";
    if (world === "no TLS") this.#base = this.#base.replace("http:", "https:");
    if (world === "broken TLS") {
      const rude = createServer((socket: Socket) => {
        socket.on("error", () => {});
        socket.once("data", () => socket.end());
      });
      await new Promise<void>((listening) => rude.listen(0, "127.0.0.1", listening));
      this.#rude = rude;
      this.#base = `https://127.0.0.1:${(rude.address() as { port: number }).port}`;
    }
    if (world === "refused") {
      const port = await deadPort();
      this.#base = `http://127.0.0.1:${port}`;
      const first = this.#relay;
      // The service comes up while we wait for the second attempt.
      if (this.#column.endsWith("once")) {
        this.#betweenAttempts = async () => {
          this.#relay = await Relay.to(this.#simulator.origin, port);
          await first.close();
        };
      }
    }
  }

  #login(): void {
    const agent = join(this.#home, "agent");
    mkdirSync(agent, { recursive: true });
    const { access, refresh } = this.#simulator.oauth.login();
    const entry = { type: "oauth", access, refresh, expires: Date.now() + 900_000 };
    writeFileSync(join(agent, "auth.json"), JSON.stringify({ "kimi-coding": entry }), { mode: 0o600 });
  }

  #kimi(withKey: boolean): Kimi {
    const env = {
      HOME: this.#home,
      PI_CODING_AGENT_DIR: join(this.#home, "agent"),
      KIMI_CODE_HOME: join(this.#home, "kimi"),
      KIMI_CODE_OAUTH_HOST: this.#simulator.oauthHost,
      KIMI_CODE_PROTOCOL: this.#dialect,
      KIMI_CODE_CONNECT_TIMEOUT_MS: "5000",
      KIMI_CODE_HEADERS_TIMEOUT_MS: `${CLOCK_MS}`,
      KIMI_CODE_FIRST_TIMEOUT_MS: `${CLOCK_MS}`,
      KIMI_CODE_GAP_TIMEOUT_MS: `${CLOCK_MS}`,
      KIMI_CODE_UPLOAD_TIMEOUT_MS: `${CLOCK_MS}`,
      KIMI_CODE_UPLOAD_THRESHOLD_BYTES: "1000",
      KIMI_LOOP_MAX_ATTEMPTS_PER_STEP: "2",
    };
    return new Kimi({ baseUrl: `${this.#base}/coding`, env, ...(withKey ? { apiKey: this.#simulator.apiKey } : {}) });
  }

  async #chat(content: string | object[]): Promise<Omit<Seen, "took">> {
    const problems: string[] = [];
    const late = this.#column === "chat, after output";
    const chat = this.#kimi(true).chat([{ role: "user", content: content as string }]);
    const kinds: string[] = [];
    let shown = "";
    let outcome = "answer";
    try {
      for await (const event of chat) {
        kinds.push(event.type);
        if (event.type === "text_delta") shown += event.delta;
        if (event.type === "retry") await this.#betweenAttempts();
      }
    } catch (error) {
      outcome = codeOf(error, problems);
      const partial = error instanceof KimiError ? error.partial : undefined;
      const kept = (partial?.content ?? []).map((part) => (part.type === "text" ? part.text : "")).join("");
      if (kept !== shown) problems.push(`kept ${JSON.stringify(kept)}, shown ${JSON.stringify(shown)}`);
    }
    const done = kinds.filter((kind) => kind === "done").length;
    if (done + (outcome === "answer" ? 0 : 1) !== 1) problems.push(`${done} done events, outcome ${outcome}`);
    if (done === 1 && kinds.at(-1) !== "done") problems.push("something came after the end");
    if (kinds.filter((kind) => kind === "start").length > 1 + retries(kinds)) problems.push("it began too often");
    const expected = outcome === "answer" ? BEFORE + AFTER : late ? BEFORE : "";
    if (shown !== expected) problems.push(`shown: ${JSON.stringify(shown)}`);
    const settled = await chat.final().then(
      () => "answer",
      (error: unknown) => codeOf(error, problems),
    );
    if (settled !== outcome) problems.push(`events say ${outcome}, the promise says ${settled}`);
    const requests = this.#fault.place === "world" ? 1 + retries(kinds) : this.#relay.count(this.#path);
    if (this.#column.startsWith("chat") && requests !== 1 + retries(kinds))
      problems.push(`${requests} requests, ${retries(kinds)} announced`);
    return { outcome, requests, problems };
  }

  async #upload(): Promise<Omit<Seen, "took">> {
    const data = fakePng(4000, `${this.#fault.name} ${this.#column}`).toString("base64");
    const seen = await this.#chat([
      { type: "text", text: "look" },
      { type: "image", mimeType: "image/png", data },
    ]);
    const last = this.#simulator.requests.findLast(({ path }) => path === PATHS[this.#dialect]);
    const sent = JSON.stringify(last?.json ?? null);
    const inline = sent.includes(data.slice(0, 400));
    if (seen.outcome === "answer" && inline === sent.includes("ms://"))
      seen.problems.push("the picture is not there once");
    const outcome = seen.outcome === "answer" && inline ? "inline" : seen.outcome;
    return { ...seen, outcome, requests: this.#fault.place === "world" ? undefined : seen.requests };
  }

  async #question(): Promise<Omit<Seen, "took">> {
    const problems: string[] = [];
    const asked =
      this.#column === "models" ? this.#kimi(true).models() : this.#kimi(false).search("x", { timeoutMs: CLOCK_MS });
    const outcome = await asked.then(
      () => "answer",
      (error: unknown) => codeOf(error, problems),
    );
    return { outcome, requests: this.#fault.place === "world" ? undefined : this.#relay.count(this.#path), problems };
  }
}

function retries(kinds: string[]): number {
  return kinds.filter((kind) => kind === "retry").length;
}

function codeOf(error: unknown, problems: string[]): string {
  if (error instanceof KimiError) return error.code;
  problems.push(`not a KimiError: ${String(error)}`);
  return "?";
}
