/**
 * The stage of one cell of the fault matrix: a simulator, a wire to it and a home, with the fault arranged on them.
 *
 * Every cell has its own, so that cells can run side by side and every request belongs to one of them.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { Kimi } from "../../index.ts";
import { type Simulator, startSimulator } from "../simulator/index.ts";
import { pause, text } from "../simulator/scenario.ts";
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

/** The answer of every stage, in two pieces; faults after output strike in the second. */
export const BEFORE = "First words.";
export const AFTER = " Second words.";

/** Short beside the real clocks, long beside what a busy machine takes for a healthy answer. */
export const CLOCK_MS = 2000;

const CHATS = { openai: "/coding/v1/chat/completions", anthropic: "/coding/v1/messages" };

export class Stage {
  readonly fault: Fault;
  readonly column: Column;
  /** Where chats go. */
  readonly chats: string;
  /** Where the calls go that the fault strikes. */
  readonly path: string;
  readonly simulator: Simulator;
  readonly #dialect: Dialect;
  readonly #home: string;
  #relay: Relay;
  #base: string;
  #rude: Server | undefined;
  #returns = async (): Promise<void> => {};

  private constructor(fault: Fault, column: Column, dialect: Dialect, home: string, theatre: [Simulator, Relay]) {
    [this.simulator, this.#relay] = theatre;
    this.fault = fault;
    this.column = column;
    this.chats = CHATS[dialect];
    if (column.startsWith("chat")) this.path = this.chats;
    else if (column.startsWith("upload")) this.path = "/coding/v1/files";
    else this.path = column === "models" ? "/coding/v1/models" : "/coding/v1/search";
    this.#dialect = dialect;
    this.#home = home;
    this.#base = this.#relay.origin;
  }

  static async set(fault: Fault, column: Column, dialect: Dialect, homes: string): Promise<Stage> {
    const home = mkdtempSync(join(homes, "cell-"));
    const simulator = await startSimulator({ identityGate: "off" });
    const stage = new Stage(fault, column, dialect, home, [simulator, await Relay.to(simulator.origin)]);
    stage.#logIn();
    await stage.#arrange();
    return stage;
  }

  /** Takes everything down again. */
  async clear(): Promise<void> {
    this.#rude?.close();
    await this.#relay.close();
    await this.simulator.close();
    rmSync(this.#home, { recursive: true, force: true });
  }

  /** The fault comes after the first words. */
  get late(): boolean {
    return this.column === "chat, after output";
  }

  /** How often the service was asked. */
  get requests(): number {
    return this.#relay.count(this.path);
  }

  /** To be called between two attempts: what is to come back by then does. */
  betweenAttempts(): Promise<void> {
    return this.#returns();
  }

  kimi(withKey: boolean): Kimi {
    const env = {
      HOME: this.#home,
      PI_CODING_AGENT_DIR: join(this.#home, "agent"),
      KIMI_CODE_HOME: join(this.#home, "kimi"),
      KIMI_CODE_OAUTH_HOST: this.simulator.oauthHost,
      KIMI_CODE_PROTOCOL: this.#dialect,
      KIMI_CODE_CONNECT_TIMEOUT_MS: "5000",
      KIMI_CODE_HEADERS_TIMEOUT_MS: `${CLOCK_MS}`,
      KIMI_CODE_FIRST_TIMEOUT_MS: `${CLOCK_MS}`,
      KIMI_CODE_GAP_TIMEOUT_MS: `${CLOCK_MS}`,
      KIMI_CODE_UPLOAD_TIMEOUT_MS: `${CLOCK_MS}`,
      KIMI_CODE_UPLOAD_THRESHOLD_BYTES: "1000",
      KIMI_LOOP_MAX_ATTEMPTS_PER_STEP: "2",
    };
    return new Kimi({ baseUrl: `${this.#base}/coding`, env, ...(withKey ? { apiKey: this.simulator.apiKey } : {}) });
  }

  #logIn(): void {
    const agent = join(this.#home, "agent");
    mkdirSync(agent, { recursive: true });
    const { access, refresh } = this.simulator.oauth.login();
    const entry = { type: "oauth", access, refresh, expires: Date.now() + 900_000 };
    writeFileSync(join(agent, "auth.json"), JSON.stringify({ "kimi-coding": entry }), { mode: 0o600 });
  }

  async #arrange(): Promise<void> {
    const { fault, late, path, simulator } = this;
    const times = this.column.endsWith("once") || late ? 1 : Infinity;
    const first = late ? [text(BEFORE), pause(150)] : [];
    simulator.setDefault({ steps: late ? [...first, text(AFTER)] : [text(BEFORE + AFTER)] });
    if (fault.place === "wire") {
      const strike = late ? { ...fault.strike, at: AFTER.slice(0, 7) } : fault.strike;
      this.#relay.rule = (asked, ordinal) => (asked === path && ordinal <= times ? strike : undefined);
    }
    if (fault.place === "http") {
      const endpoint = path === CHATS.openai ? "chat" : path.slice(path.lastIndexOf("/") + 1);
      simulator.intercept(endpoint, ...Array.from({ length: Math.min(times, 5) }, () => fault.answer));
    }
    if (fault.place === "stream") {
      const scenario = { steps: [...first, ...fault.steps] };
      if (times === 1) simulator.enqueue(scenario);
      else simulator.setDefault(scenario);
    }
    if (fault.place === "world") await this.#change(fault.world);
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
      if (!this.column.endsWith("once")) return;
      this.#returns = async () => {
        this.#relay = await Relay.to(this.simulator.origin, port);
        await first.close();
      };
    }
  }
}
