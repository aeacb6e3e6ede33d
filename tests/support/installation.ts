/** A throw-away machine on which real Pi installs our packages from a registry of our own. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, beforeEach } from "node:test";
import { packRoot } from "../../npm/pack.mjs";
import { type Simulator, startSimulator } from "../simulator/index.ts";
import { platformTarball } from "./packages.ts";
import { Home, PI_CLI, type PiResult, RpcPi, runPi } from "./pi.ts";
import { Registry } from "./registry.ts";

export const NAME = "pi-provider-kimi-code";
export const MODEL = ["--model", "kimi-coding/kimi-for-coding"];

/** One simulator for all tests of a file, and a machine with its registry for each. */
export function withInstallation(use: (simulator: Simulator, machine: Installation) => void): void {
  let simulator: Simulator;
  let machine: Installation;
  before(async () => {
    simulator = await startSimulator();
  });
  after(() => simulator.close());
  beforeEach(async () => {
    machine = new Installation(simulator);
    use(simulator, machine);
    await machine.registry.listen();
  });
  afterEach(() => machine.close());
}

export class Installation extends Home {
  readonly registry: Registry;
  /** Program of the Pi that is used. */
  cli = PI_CLI;
  readonly simulator: Simulator;

  /** `simulator` answers the turns; the caller owns it, and a registry that is passed. */
  constructor(simulator: Simulator, registry = new Registry()) {
    super();
    this.simulator = simulator;
    this.registry = registry;
    simulator.reset();
  }

  /** The root package and this platform's, as a release of this checkout has them. */
  publishCurrent(): void {
    this.registry.publish(packRoot(this.tmp));
    this.registry.publish(platformTarball());
    this.registry.listOtherPlatforms();
  }

  variables(): Record<string, string | undefined> {
    const { url } = this.registry;
    return {
      // Pi installs nothing while it is told to be offline.
      PI_OFFLINE: undefined,
      npm_config_registry: url,
      pnpm_config_registry: url,
      BUN_CONFIG_REGISTRY: url,
      npm_config_audit: "false",
      npm_config_update_notifier: "false",
      npm_config_fetch_retries: "0",
      KIMI_CODE_BASE_URL: this.simulator.baseUrl,
      KIMI_API_KEY: this.simulator.apiKey,
    };
  }

  /** Runs Pi with whatever is installed; `pi` requires success. */
  run(...args: string[]): Promise<PiResult> {
    return runPi(args, {
      home: this,
      env: this.variables(),
      extensions: "installed",
      timeoutMs: 120_000,
      cli: this.cli,
    });
  }

  async pi(...args: string[]): Promise<PiResult> {
    const result = await this.run(...args);
    assert.equal(result.code, 0, result.stdout + result.stderr);
    return result;
  }

  rpc(...args: string[]): RpcPi {
    return new RpcPi(["--no-session", ...args], {
      home: this,
      env: this.variables(),
      extensions: "installed",
      cli: this.cli,
    });
  }

  /** Runs a turn of the installed extension. Our agent name tells it from Pi's own provider. */
  async answers(): Promise<void> {
    this.simulator.enqueue({ steps: [{ text: "Installed and well." }] });
    const result = await this.pi("-p", "--no-session", ...MODEL, "hi");
    assert.equal(result.stdout.trim(), "Installed and well.");
    assert.match(this.agentName(), /pi-provider-kimi-code\//);
  }

  /** The agent of the last request. */
  agentName(): string {
    return this.simulator.requests.at(-1)?.headers["user-agent"] ?? "";
  }

  /** The warnings that Pi shows at the start of a session. */
  async warnings(): Promise<string> {
    const rpc = this.rpc();
    try {
      await rpc.command({ type: "get_state" });
      return JSON.stringify(rpc.events.filter((event) => event["method"] === "notify"));
    } finally {
      await rpc.close();
    }
  }

  /** The packages in Pi's settings. */
  packages(): string[] {
    const text = readFileSync(join(this.agent, "settings.json"), "utf8");
    return (JSON.parse(text) as { packages?: string[] }).packages ?? [];
  }

  async close(): Promise<void> {
    await this.registry.close();
    this.remove();
  }
}
