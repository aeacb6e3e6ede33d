/**
 * One Pi in RPC mode before a stage of the fault matrix, for cell after cell.
 *
 * What differs between cells lies in files that are read anew for each request, so that one process can play them all.
 */
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { catalogs } from "../simulator/catalog-variants.ts";
import type { RequestRecord } from "../simulator/types.ts";
import { Home, RpcPi } from "../support/pi.ts";
import type { Cell } from "./matrix.ts";
import { PATIENCE_MS, SHORT, Stage } from "./stage.ts";

/** Kimi's tools as Pi calls them, and what they are asked. */
export const TOOLS = {
  search: ["moonshot_search", { query: "x" }],
  fetch: ["moonshot_fetch", { url: "https://example.com/" }],
  "data source": ["kimi_datasource", { data_source_name: "arxiv" }],
} as const;

const ENABLED = Object.fromEntries(Object.values(TOOLS).map(([name]) => [name, { enabled: true }]));

export class Lane {
  readonly stage: Stage;
  readonly pi: RpcPi;
  readonly #home = new Home();

  private constructor(stage: Stage) {
    this.stage = stage;
    this.#home.settings({ retry: { enabled: true, maxRetries: 1, baseDelayMs: 10 }, compaction: { enabled: false } });
    this.configure(stage.simulator.baseUrl);
    this.#logIn(false);
    const env = { ...SHORT, KIMI_CODE_OAUTH_HOST: stage.simulator.oauthHost };
    this.pi = new RpcPi(["--no-session", "--model", "kimi-coding/kimi-for-coding"], { home: this.#home, env });
  }

  /** Starts a Pi and waits until its first session is quiet. */
  static async open(): Promise<Lane> {
    const lane = new Lane(await Stage.open());
    await lane.#quiet();
    return lane;
  }

  async close(): Promise<void> {
    await this.pi.close();
    await this.stage.close();
    this.#home.remove();
  }

  /**
   * A new session with this cell's fault around it.
   *
   * Pi's own retries are on, so that a request which Pi repeats although we gave up is counted; after output they are off, because
   * there asking again is Pi's affair.
   */
  async begin(cell: Cell): Promise<void> {
    const { stage } = this;
    await stage.arrange(cell);
    stage.simulator.catalog.models = catalogs.nextYear();
    const tool = cell.way in TOOLS;
    const lost = cell.fault.place === "world" && !tool;
    // Without an answer there is no call of a tool, so for tools the world changes when the answer is under way.
    this.configure(tool && cell.fault.place === "world" ? stage.simulator.baseUrl : stage.base);
    this.#logIn(tool);
    await this.pi.command({ type: "new_session" });
    await this.pi.command({ type: "set_auto_retry", enabled: !stage.late });
    if (cell.way !== "models" && !lost) await this.#quiet();
  }

  /** Writes our settings. */
  configure(baseUrl: string): void {
    mkdirSync(join(this.#home.home, ".pi"), { recursive: true });
    const settings = { baseUrl, protocol: this.stage.dialect, tools: ENABLED, statusLine: false };
    writeFileSync(join(this.#home.home, ".pi", "pi-provider-kimi-code.json"), JSON.stringify(settings));
  }

  /** Ids of the models that Pi offers of us. */
  async models(): Promise<string[]> {
    const { data } = await this.pi.command({ type: "get_available_models" });
    const { models } = data as { models: { provider: string; id: string }[] };
    return models.filter(({ provider }) => provider === "kimi-coding").map(({ id }) => id);
  }

  /** Kimi's tools take a login, everything else has a key here. */
  #logIn(wanted: boolean): void {
    // Nobody's login outlives a cell, and the official client's file would offer the last one's.
    rmSync(join(this.#home.home, ".kimi-code"), { recursive: true, force: true });
    if (wanted) return this.stage.logIn(this.#home.agent);
    const entry = { type: "api_key", key: this.stage.simulator.apiKey };
    writeFileSync(join(this.#home.agent, "auth.json"), JSON.stringify({ "kimi-coding": entry }));
  }

  /** The session has asked for its models, and nothing else comes by itself. */
  async #quiet(): Promise<void> {
    const over = ({ endpoint, ended }: RequestRecord): boolean => endpoint === "models" && ended !== undefined;
    await this.stage.simulator.waitForRequest(over, PATIENCE_MS);
  }
}
