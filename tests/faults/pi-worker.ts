/**
 * One Pi in RPC mode on a setup of the fault matrix, used for cell after cell.
 *
 * What differs between cells is in files that are read again for each request, so that one process can run them all.
 */
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { catalogs } from "../simulator/catalog-variants.ts";
import type { RequestRecord } from "../simulator/types.ts";
import { Home, RpcPi } from "../support/pi.ts";
import type { Cell } from "./matrix.ts";
import { WAIT_MS, SHORT, FaultSetup } from "./fault-setup.ts";

/** Kimi's tools by Pi's names, with their arguments. */
export const TOOLS = {
  search: ["moonshot_search", { query: "x" }],
  fetch: ["moonshot_fetch", { url: "https://example.com/" }],
  "data source": ["kimi_datasource", { data_source_name: "arxiv" }],
} as const;

const ENABLED = Object.fromEntries(Object.values(TOOLS).map(([name]) => [name, { enabled: true }]));

export class PiWorker {
  readonly setup: FaultSetup;
  readonly pi: RpcPi;
  readonly #home = new Home();

  private constructor(setup: FaultSetup) {
    this.setup = setup;
    this.#home.settings({ retry: { enabled: true, maxRetries: 1, baseDelayMs: 10 }, compaction: { enabled: false } });
    this.configure(setup.simulator.baseUrl);
    this.#logIn(false);
    const env = { ...SHORT, KIMI_CODE_OAUTH_HOST: setup.simulator.oauthHost };
    this.pi = new RpcPi(["--no-session", "--model", "kimi-coding/kimi-for-coding"], { home: this.#home, env });
  }

  /** Starts a Pi and waits until its first session is idle. */
  static async open(): Promise<PiWorker> {
    const worker = new PiWorker(await FaultSetup.open());
    await worker.#quiet();
    return worker;
  }

  async close(): Promise<void> {
    await this.pi.close();
    await this.setup.close();
    this.#home.remove();
  }

  /**
   * Starts a new session with this cell's fault.
   *
   * Pi's own retries are on, so that a request which Pi repeats although we gave up is counted; after output they are off,
   * because retrying there is up to Pi.
   */
  async begin(cell: Cell): Promise<void> {
    const { setup } = this;
    await setup.arrange(cell);
    setup.simulator.catalog.models = catalogs.nextYear();
    const tool = cell.way in TOOLS;
    const lost = cell.fault.place === "world" && !tool;
    // A tool call needs an answer first, so for tools the fault starts once the answer has begun.
    this.configure(tool && cell.fault.place === "world" ? setup.simulator.baseUrl : setup.base);
    this.#logIn(tool);
    await this.pi.command({ type: "new_session" });
    await this.pi.command({ type: "set_auto_retry", enabled: !setup.late });
    if (cell.way !== "models" && !lost) await this.#quiet();
  }

  /** Writes our settings. */
  configure(baseUrl: string): void {
    mkdirSync(join(this.#home.home, ".pi"), { recursive: true });
    const settings = { baseUrl, protocol: this.setup.dialect, tools: ENABLED, statusLine: false };
    writeFileSync(join(this.#home.home, ".pi", "pi-provider-kimi-code.json"), JSON.stringify(settings));
  }

  /** Returns the ids of our models in Pi's list. */
  async models(): Promise<string[]> {
    const { data } = await this.pi.command({ type: "get_available_models" });
    const { models } = data as { models: { provider: string; id: string }[] };
    return models.filter(({ provider }) => provider === "kimi-coding").map(({ id }) => id);
  }

  /** Kimi's tools need a login; everything else uses a key here. */
  #logIn(wanted: boolean): void {
    // Remove the login after each cell, also from the official client's file, which would offer it to the next one.
    rmSync(join(this.#home.home, ".kimi-code"), { recursive: true, force: true });
    if (wanted) return this.setup.logIn(this.#home.agent);
    const entry = { type: "api_key", key: this.setup.simulator.apiKey };
    writeFileSync(join(this.#home.agent, "auth.json"), JSON.stringify({ "kimi-coding": entry }));
  }

  /** The session has requested its models, and sends nothing else by itself. */
  async #quiet(): Promise<void> {
    const over = ({ endpoint, ended }: RequestRecord): boolean => endpoint === "models" && ended !== undefined;
    await this.setup.simulator.waitForRequest(over, WAIT_MS);
  }
}
