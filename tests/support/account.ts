/** A throw-away machine with a Kimi login: files in Pi's and the official client's form, and ways to use them. */
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createHash } from "node:crypto";
import { dirname, join } from "node:path";
import { afterEach, beforeEach } from "node:test";
import { type Simulator, type SimulatorOptions } from "../simulator/index.ts";
import { Home } from "./pi.ts";
import { withSimulator } from "./simulator.ts";

export interface Tokens {
  access: string;
  refresh: string;
}

export interface Entry extends Tokens {
  type: "oauth";
  expires: number;
  [member: string]: unknown;
}

export interface KimiFile {
  access_token: string;
  refresh_token: string;
  expires_at: number;
  expires_in: number;
  scope: string;
  token_type: string;
  [member: string]: unknown;
}

/** One simulator for all tests of a file, reset between them, and a new machine for each. */
export function withMachine(
  use: (simulator: Simulator, machine: Machine) => void,
  options: SimulatorOptions = {},
): void {
  let simulator: Simulator;
  let machine: Machine;
  withSimulator((given) => (simulator = given), options);
  beforeEach(() => {
    simulator.setDefault({ steps: [{ text: "ok" }] });
    machine = new Machine(simulator);
    use(simulator, machine);
  });
  afterEach(() => machine.remove());
}

/**
 * As {@link withMachine}. The returned function takes a program that is closed at the end of its test, before its machine goes away.
 * Nothing but these programs may talk to the service.
 */
export function withPrograms(
  use: (simulator: Simulator, machine: Machine) => void,
): <P extends { close(): unknown }>(program: P) => P {
  let simulator: Simulator;
  const open: { close(): unknown }[] = [];
  // Hooks run in order.
  afterEach(async () => {
    for (const program of open.splice(0)) await program.close();
    await simulator.quiet();
  });
  withMachine((...given) => {
    [simulator] = given;
    use(...given);
  });
  return (program) => {
    open.push(program);
    return program;
  };
}

export class Machine extends Home {
  readonly simulator: Simulator;

  constructor(simulator: Simulator) {
    super();
    this.simulator = simulator;
  }

  /** The environment that points both programs at this machine. */
  variables(extra: Record<string, string | undefined> = {}): Record<string, string | undefined> {
    return {
      KIMI_CODE_BASE_URL: `${this.simulator.baseUrl}/v1`,
      KIMI_CODE_OAUTH_HOST: this.simulator.oauthHost,
      ...extra,
    };
  }

  /**
   * The credential's name by the rule of the official client (docs/protocol.md#credential-scopes), computed independently of the
   * code under test.
   */
  get slot(): string {
    const scope = JSON.stringify({ oauthHost: this.simulator.oauthHost, baseUrl: `${this.simulator.baseUrl}/v1` });
    return `kimi-code-env-${createHash("sha256").update(scope).digest("hex").slice(0, 16)}`;
  }

  get authPath(): string {
    return join(this.agent, "auth.json");
  }

  get kimiPath(): string {
    return join(this.home, ".kimi-code", "credentials", `${this.slot}.json`);
  }

  get lockPath(): string {
    return join(this.home, ".kimi-code", "oauth", `${this.slot}.lock`);
  }

  /** Gives Pi a login; `remaining` in seconds. */
  piLogin(tokens: Tokens, remaining: number, more: Record<string, unknown> = {}): void {
    const entry = { type: "oauth", ...pick(tokens), expires: Date.now() + remaining * 1000, ...more };
    writeFileSync(this.authPath, JSON.stringify({ "kimi-coding": entry }, null, 2), { mode: 0o600 });
  }

  /** Gives the official client a login. */
  kimiLogin(tokens: Tokens, remaining: number, more: Record<string, unknown> = {}): void {
    mkdirSync(dirname(this.kimiPath), { recursive: true, mode: 0o700 });
    const content = {
      access_token: tokens.access,
      refresh_token: tokens.refresh,
      expires_at: Math.floor(Date.now() / 1000) + remaining,
      scope: "kimi-code",
      token_type: "Bearer",
      expires_in: 900,
      ...more,
    };
    writeFileSync(this.kimiPath, `${JSON.stringify(content, null, 2)}\n`, { mode: 0o600 });
  }

  /** Our entry in auth.json. */
  get pi(): Entry | undefined {
    if (!existsSync(this.authPath)) return undefined;
    const all = JSON.parse(readFileSync(this.authPath, "utf8")) as Record<string, Entry>;
    return all["kimi-coding"];
  }

  get kimi(): KimiFile | undefined {
    return existsSync(this.kimiPath) ? (JSON.parse(readFileSync(this.kimiPath, "utf8")) as KimiFile) : undefined;
  }

  /** An account request for the addon. */
  request(extra: Record<string, string> = {}, more: Record<string, unknown> = {}): string {
    const environment = { HOME: this.home, PI_CODING_AGENT_DIR: this.agent, ...this.variables(), ...extra };
    return JSON.stringify({ environment, host: {}, ...more });
  }

  /** Runs one turn of a plain Node program without Pi, in a process of its own. Resolves to its report. */
  async nodeTurn(options: NodeTurnOptions = {}): Promise<NodeTurn> {
    const script = join(import.meta.dirname, "node-turn.ts");
    const node = `exec "${process.execPath}" "${script}"`;
    const [command, args] = options.withoutSpace
      ? ["bash", ["-c", `trap '' XFSZ; ulimit -f 0; ${node}`]]
      : [process.execPath, [script]];
    const child = spawn(command, args, {
      cwd: this.cwd,
      env: { ...this.env(this.variables(options.env)), ...(options.key ? { TEST_KEY: options.key } : {}) },
      stdio: ["ignore", "pipe", "pipe"],
      ...(options.user === undefined ? {} : { uid: options.user, gid: options.user }),
    });
    options.started?.(child.pid ?? 0);
    let stdout = "";
    let stderr = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
    child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
    const timer = setTimeout(() => child.kill("SIGKILL"), 90_000);
    const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
    clearTimeout(timer);
    if (code !== 0 || stderr !== "") return { text: "", error: `exit ${code}: ${stderr}` };
    return stdout === "" ? { text: "", error: "ended without an answer" } : (JSON.parse(stdout) as NodeTurn);
  }
}

export interface NodeTurnOptions {
  env?: Record<string, string | undefined>;
  key?: string;
  /** Runs as this user, who must own the machine's files. */
  user?: number;
  /** No file may grow. */
  withoutSpace?: boolean;
  started?: (pid: number) => void;
}

export interface NodeTurn {
  text: string;
  error?: string;
  code?: string;
}

function pick({ access, refresh }: Tokens): Tokens {
  return { access, refresh };
}
