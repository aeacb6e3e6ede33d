/** Runs loads against a simulator in a process of its own, every load in a fresh process, and checks their limits. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { Home, PI_CLI, ROOT } from "../support/pi.ts";
import { type Service, startService } from "../support/service.ts";
import type { Scenario } from "../simulator/types.ts";
import type { Report } from "./loads.ts";

export type Load = "streams" | "turns" | "aborts" | "workers";

/** An answer in `count` pieces, `perSecond` of them a second. */
export function paced(count: number, perSecond: number): Scenario {
  return { steps: [{ repeat: { kind: "text", count, text: "word ", perSecond } }] };
}

/** The service's answer. */
const SCENARIOS: Record<Load | "endings", Scenario> = {
  // Twelve seconds, forty pieces a second.
  streams: paced(480, 40),
  turns: {
    steps: [
      { thinking: "Hm." },
      { text: "An answer. ", size: 4 },
      { toolCall: { name: "look", arguments: { at: "x" } } },
    ],
  },
  aborts: paced(20_000, 200),
  workers: paced(30, 200),
  endings: paced(20_000, 100),
};

/** A service and a throw-away home for children that use it. */
export class Ground {
  readonly service: Service;
  readonly #home = new Home();

  private constructor(service: Service) {
    this.service = service;
  }

  static async make(): Promise<Ground> {
    // The service's identity gate does not know plain Node programs.
    return new Ground(await startService(["--identity-gate", "off"]));
  }

  get env(): NodeJS.ProcessEnv {
    const { baseUrl, apiKey } = this.service;
    const native = process.env["KIMI_CODE_NATIVE"];
    return this.#home.env({ KIMI_CODE_BASE_URL: baseUrl, KIMI_API_KEY: apiKey, KIMI_CODE_NATIVE: native });
  }

  remove(): void {
    this.service.stop();
    this.#home.remove();
  }

  /** Runs a load to its end. */
  async run(load: Load, numbers: number[], scenario = SCENARIOS[load]): Promise<Report> {
    await this.service.reset();
    await this.service.enqueue({ steps: [{ text: "warm" }] });
    await this.service.setDefault(scenario);
    const { code, stdout, stderr } = await this.#child([
      "--expose-gc",
      program("child.ts"),
      load,
      ...numbers.map(String),
    ]);
    if (code !== 0) throw new Error(`${load} ended with ${code}: ${stderr}`);
    return JSON.parse(stdout) as Report;
  }

  /** Ends a process `way` in the middle of its answers, after `delay` milliseconds. */
  async end(way: Ending, delay: number): Promise<Ended> {
    await this.service.setDefault(way === "return" ? SCENARIOS.workers : SCENARIOS.endings);
    return this.#child([program("ending.ts"), way, String(delay)]);
  }

  /** Ends a Pi that prints an answer, once its first words have arrived. */
  async endPi(signal: NodeJS.Signals): Promise<Ended> {
    await this.service.setDefault(SCENARIOS.endings);
    const args = [
      PI_CLI,
      "-ne",
      "-e",
      ROOT,
      "--mode",
      "json",
      "--no-session",
      "--model",
      "kimi-coding/kimi-for-coding",
      "hi",
    ];
    return this.#child(args, (child, stdout) => stdout.includes("text_delta") && !child.killed && child.kill(signal));
  }

  /** Reads an answer of a gigabyte in both dialects. */
  async endless(kind: Piece, dialect: string): Promise<{ outcome: string; megabytes: number }> {
    await this.service.reset();
    await this.service.enqueue({ steps: [{ text: "warm" }] });
    const text = "word ".repeat(12_000);
    await this.service.setDefault({ steps: [{ repeat: { kind, count: Math.ceil(2 ** 30 / text.length), text } }] });
    const { code, stdout, stderr } = await this.#child(["--expose-gc", program("endless.ts")], undefined, {
      KIMI_CODE_PROTOCOL: dialect,
    });
    if (code !== 0) throw new Error(`an endless answer ended the process with ${code}: ${stderr}`);
    return JSON.parse(stdout) as { outcome: string; megabytes: number };
  }

  async #child(
    args: string[],
    onOutput?: (child: ChildProcess, stdout: string) => void,
    env: NodeJS.ProcessEnv = {},
  ): Promise<Ended> {
    const child = spawn(process.execPath, args, { env: { ...this.env, ...env }, stdio: ["ignore", "pipe", "pipe"] });
    let stdout = "";
    let stderr = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
      onOutput?.(child, stdout);
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
    const [code, signal] = (await once(child, "close")) as [number | null, string | null];
    return { code, signal, stdout, stderr };
  }
}

/** What an endless answer consists of. */
export const PIECES = ["text", "thinking", "arguments"] as const;
export type Piece = (typeof PIECES)[number];

export const ENDINGS = ["return", "exit", "throw", "SIGTERM", "SIGINT"] as const;
export type Ending = (typeof ENDINGS)[number];

export interface Ended {
  code: number | null;
  signal: string | null;
  stdout: string;
  stderr: string;
}

/** Describes what is wrong with how a process ended; empty means success. */
export function complaint(way: Ending, { code, signal, stdout, stderr }: Ended): string | undefined {
  const right = {
    return: code === 0 && stdout === "fulfilled fulfilled fulfilled",
    exit: code === 7,
    throw: code === 1 && stderr.includes("on purpose"),
    SIGTERM: signal === "SIGTERM",
    SIGINT: signal === "SIGINT",
  }[way];
  const quiet = way === "throw" || stderr === "";
  return right && quiet ? undefined : `${way}: code ${code}, signal ${signal}, ${stdout} ${stderr}`;
}

function program(name: string): string {
  return join(import.meta.dirname, name);
}

/** Threads that blocking work leaves behind for some seconds. */
const IDLE_THREADS = 6;

/** Describes what a load has left behind or got wrong. `connections` is how many may stay open for the next turn. */
export function complaints({ before, after, wrong, growth }: Report, connections: number, megabytes: number): string[] {
  return [
    ...wrong.slice(0, 5),
    ...(after.handles > before.handles ? [`${after.handles - before.handles} handles left`] : []),
    ...(after.threads > before.threads + IDLE_THREADS ? [`${after.threads - before.threads} threads left`] : []),
    ...(after.files > before.files + connections ? [`${after.files - before.files} descriptors left`] : []),
    ...(growth > megabytes ? [`RSS grew by ${growth.toFixed(1)} MB`] : []),
  ];
}
