/**
 * The setup of the fault matrix: a simulator and a relay in front of it, set up for one cell after the other.
 *
 * Each worker has a setup of its own, so that cells run concurrently and every request belongs to one of them.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import { type Simulator, startSimulator } from "../simulator/index.ts";
import { pause, text } from "../simulator/scenario.ts";
import type { Dialect } from "../support/turn.ts";
import type { World } from "./cases.ts";
import type { Cell } from "./matrix.ts";
import { AFTER, BEFORE } from "./play-chat.ts";
import { deadPort, Relay } from "./relay.ts";

/** Short compared to the real timeouts, long compared to a healthy answer on a busy machine. */
export const CLOCK_MS = 2000;

/** Longest wait for something that must arrive. */
export const WAIT_MS = 60_000;

/** Settings that shorten the waiting. */
export const SHORT = {
  KIMI_CODE_CONNECT_TIMEOUT_MS: "12000",
  KIMI_CODE_HEADERS_TIMEOUT_MS: `${CLOCK_MS}`,
  KIMI_CODE_FIRST_TIMEOUT_MS: `${CLOCK_MS}`,
  KIMI_CODE_GAP_TIMEOUT_MS: `${CLOCK_MS}`,
  KIMI_CODE_UPLOAD_TIMEOUT_MS: `${CLOCK_MS}`,
  KIMI_CODE_UPLOAD_THRESHOLD_BYTES: "1000",
  KIMI_LOOP_MAX_ATTEMPTS_PER_STEP: "2",
};

/** Path of each variant below the API root, and the simulator's name for its endpoint. */
const PLACES = {
  openai: ["chat/completions", "chat"],
  anthropic: ["messages", "messages"],
  file: ["files", "files"],
  models: ["models", "models"],
  usage: ["usages", "usages"],
  account: ["me", "me"],
  search: ["search", "search"],
  fetch: ["fetch", "fetch"],
  "data source": ["tools", "tools"],
} as const;

export class FaultSetup {
  readonly simulator: Simulator;
  /** The service's base URL given to the client. */
  base = "";
  readonly #relay: Relay;
  #cell: Cell | undefined;
  /** Further state set up for the cell. */
  #servers: { close(): unknown }[] = [];
  #returns: (() => Promise<void>) | undefined;

  private constructor(simulator: Simulator, relay: Relay) {
    this.simulator = simulator;
    this.#relay = relay;
  }

  static async open(): Promise<FaultSetup> {
    const simulator = await startSimulator({ identityGate: "off" });
    return new FaultSetup(simulator, await Relay.to(simulator.origin));
  }

  async close(): Promise<void> {
    await this.#clear();
    await this.#relay.close();
    await this.simulator.close();
  }

  get #playing(): Cell {
    if (this.#cell === undefined) throw new Error("nothing has been arranged");
    return this.#cell;
  }

  /** The dialect of chats. */
  get dialect(): Dialect {
    return this.#cell?.way === "anthropic" ? "anthropic" : "openai";
  }

  /** The fault comes after the first words. */
  get late(): boolean {
    return this.#playing.column === "chat, after output";
  }

  /** Number of requests to the faulty endpoint; `undefined` if nothing was there to count. */
  get requests(): number | undefined {
    return this.#playing.fault.place === "world" ? undefined : this.#relay.count(this.#place[0]);
  }

  /** Whether a redirect was followed. */
  get redirectFollowed(): boolean {
    return this.simulator.requests.some(({ path }) => path === "/coding/v1/x");
  }

  /** Tells the outcome `answer` of a chat with this image (base64) from one whose request held the bytes inline. */
  uploaded(outcome: string, data: string, problems: string[]): string {
    if (outcome !== "answer") return outcome;
    const path = `/coding/v1/${PLACES[this.dialect][0]}`;
    const last = this.simulator.requests.findLast((request) => request.path === path);
    const sent = JSON.stringify(last?.json ?? null);
    const count = (text: string): number => sent.split(text).length - 1;
    const inline = count(data.slice(0, 400));
    if (inline + count("ms://") !== 1) problems.push("the picture is not there once");
    return inline === 1 ? "inline" : outcome;
  }

  /** Writes a login into Pi's folder. */
  logIn(agent: string): void {
    mkdirSync(agent, { recursive: true });
    const { access, refresh } = this.simulator.oauth.login();
    const entry = { type: "oauth", access, refresh, expires: Date.now() + 900_000 };
    writeFileSync(join(agent, "auth.json"), JSON.stringify({ "kimi-coding": entry }), { mode: 0o600 });
  }

  /** The service comes back when {@link betweenAttempts} is called. */
  get returns(): boolean {
    return this.#returns !== undefined;
  }

  /** Call this between two attempts. */
  async betweenAttempts(): Promise<void> {
    await this.#returns?.();
  }

  /** Calls `then` when the first request that the fault affects has left its process, before the service has it. */
  onFirstRequest(then: () => void): void {
    const [path] = this.#place;
    this.#relay.onRequest = (asked, ordinal) => {
      if (asked === path && ordinal === 1) then();
    };
  }

  /** Resolves when the request has come that the fault affects. */
  async affected(): Promise<void> {
    await this.simulator.waitForRequest(({ path }) => path === this.#place[0], WAIT_MS);
  }

  /** Path and endpoint that the fault affects. */
  get #place(): [path: string, endpoint: string] {
    const { column, way } = this.#playing;
    const [path, endpoint] = PLACES[column.startsWith("upload") ? "file" : way];
    return [`/coding/v1/${path}`, endpoint];
  }

  async #clear(): Promise<void> {
    this.#returns = undefined;
    await Promise.all(this.#servers.splice(0).map((server) => server.close()));
    this.#relay.forget();
    this.simulator.reset();
  }

  /** Removes the fault: from now on every chat is answered. */
  async heal(): Promise<void> {
    await this.#clear();
    this.simulator.setDefault({ steps: [text(BEFORE + AFTER)] });
  }

  /** Removes the last cell's fault and sets up this one's. */
  async arrange(cell: Cell): Promise<void> {
    await this.#clear();
    this.#cell = cell;
    this.base = `${this.#relay.origin}/coding`;
    const { fault, column } = cell;
    const { late, simulator } = this;
    const [path, endpoint] = this.#place;
    const times = column.endsWith("once") || column === "chat, stopped" || late ? 1 : Infinity;
    // Long enough to be read even on a busy machine: a reset overtakes unread data.
    const first = late ? [text(BEFORE), pause(400)] : [];
    simulator.setDefault({ steps: late ? [...first, text(AFTER)] : [text(BEFORE + AFTER)] });
    if (fault.place === "wire") {
      const breakage = late ? { ...fault.breakage, at: AFTER.slice(0, 7) } : fault.breakage;
      this.#relay.rule = (asked, ordinal) => (asked === path && ordinal <= times ? breakage : undefined);
    }
    if (fault.place === "http") {
      simulator.intercept(endpoint, ...Array.from({ length: Math.min(times, 5) }, () => fault.answer));
    }
    if (fault.place === "stream") {
      const scenario = { steps: [...first, ...fault.steps] };
      if (times === 1) simulator.enqueue(scenario);
      else simulator.setDefault(scenario);
    }
    if (fault.place === "world") await this.#change(fault.world, times === 1);
  }

  async #change(world: World, returns: boolean): Promise<void> {
    if (world === "unknown host") this.base = "http://kimi.invalid/coding";
    if (world === "no TLS") this.base = this.base.replace("http:", "https:");
    if (world === "broken TLS") {
      const closing = createServer((socket: Socket) => {
        socket.on("error", () => {});
        socket.once("data", () => socket.end());
      });
      await new Promise<void>((listening) => closing.listen(0, "127.0.0.1", listening));
      this.#servers.push(closing);
      this.base = `https://127.0.0.1:${(closing.address() as { port: number }).port}/coding`;
    }
    if (world === "refused") {
      const port = await deadPort();
      this.base = `http://127.0.0.1:${port}/coding`;
      if (!returns) return;
      this.#returns = async () => void this.#servers.push(await Relay.to(this.simulator.origin, port));
    }
  }
}
