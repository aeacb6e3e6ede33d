/** A service whose plan has quota windows, and a client of its own home, for one test. */
import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { type ChatEvent, Kimi, type KimiOptions } from "../../index.ts";
import { environment, host } from "../../extension/environment.ts";
import type { ParkState } from "../../extension/queries.ts";
import {
  type PlanWindow,
  PlanWindows,
  type RequestRecord,
  type Simulator,
  startSimulator,
} from "../simulator/index.ts";
import { Home } from "./pi.ts";
import { addon } from "./turn.ts";

const HOUR = 3_600_000;

/** A 5-hour window that is used up and opens in `opensInMs`. Requests cost nothing. */
export function fiveHours(opensInMs: number, more: Partial<PlanWindow> = {}): PlanWindow {
  const weights = { uncached: 0, cached: 0, output: 0 };
  return { name: "limit_5h", percent: 100, opensAt: Date.now() + opensInMs, lengthMs: 5 * HOUR, weights, ...more };
}

/** The service and the machine of a test. */
export interface PlanStage {
  simulator: Simulator;
  home: Home;
  plan: PlanWindows;
  /** The account's windows, which may be changed. */
  windows(): PlanWindow[];
  /** What the machine's processes wait for. */
  parked(): Promise<ParkState>;
  /** A client on this machine. */
  kimi(options?: KimiOptions): Kimi;
  /** Requests of an endpoint so far. */
  requests(endpoint: "chat" | "usages"): RequestRecord[];
}

/** Makes a stage that goes away with the test. Every account begins with these windows. */
export async function planStage(context: TestContext, windows: (account: string) => PlanWindow[]): Promise<PlanStage> {
  const simulator = await startSimulator({ identityGate: "off" });
  const home = new Home();
  context.after(async () => {
    await simulator.close();
    home.remove();
  });
  const plan = new PlanWindows(windows);
  simulator.plan.windows = plan;
  const own = { HOME: home.home, PI_CODING_AGENT_DIR: home.agent };
  simulator.setDefault({ steps: [{ text: "Hello." }] });
  return {
    simulator,
    home,
    plan,
    windows: () => plan.of(simulator.apiKey),
    parked: async () => {
      const { baseUrl, apiKey } = simulator;
      const caller = { environment: environment({ ...own, KIMI_CODE_BASE_URL: baseUrl }), host: host(undefined) };
      return JSON.parse(await addon().quotaState(JSON.stringify({ ...caller, apiKey }))) as ParkState;
    },
    kimi: ({ env, ...options } = {}) =>
      new Kimi({ baseUrl: simulator.baseUrl, apiKey: simulator.apiKey, env: { ...own, ...env }, ...options }),
    requests: (endpoint) => simulator.requests.filter((request) => request.endpoint === endpoint),
  };
}

/** Collects the events of a chat to its end; `seen` is called with each. */
export async function follow(
  chat: AsyncIterable<ChatEvent>,
  seen: (event: ChatEvent) => void = () => undefined,
): Promise<ChatEvent[]> {
  const events: ChatEvent[] = [];
  for await (const event of chat) {
    events.push(event);
    seen(event);
  }
  return events;
}

/** Returns the first event of a type and leaves the chat running. */
export async function firstEvent<T extends ChatEvent["type"]>(
  chat: AsyncIterable<ChatEvent>,
  type: T,
): Promise<ChatEvent & { type: T }> {
  const events = chat[Symbol.asyncIterator]();
  for (;;) {
    const { value, done } = await events.next();
    if (done === true) throw new Error(`the chat ended without ${type}`);
    if (value.type === type) return value as ChatEvent & { type: T };
  }
}

/** A process of its own that waits for a window. */
export interface WaitingProcess {
  child: ChildProcess;
  /** Resolves with the first event of this type. */
  event(type: ChatEvent["type"]): Promise<ChatEvent>;
}

/** Starts a process with one chat; it ends with the test. */
export function startWaiting(context: TestContext, { simulator, home }: PlanStage): WaitingProcess {
  const program = join(import.meta.dirname, "waiting-chat.ts");
  const child = spawn(process.execPath, [program], {
    env: home.env({ KIMI_CODE_BASE_URL: simulator.baseUrl, KIMI_API_KEY: simulator.apiKey, KIMI_CODE_QUOTA: "wait" }),
    stdio: ["ignore", "pipe", "inherit"],
  });
  context.after(() => child.kill("SIGKILL"));
  const events: ChatEvent[] = [];
  let text = "";
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
    const lines = (text + chunk).split("\n");
    text = lines.pop() ?? "";
    events.push(...lines.map((line) => JSON.parse(line) as ChatEvent));
    child.emit("told");
  });
  return {
    child,
    event: (type) =>
      new Promise((resolve, reject) => {
        const look = (): void => {
          const found = events.find((event) => event.type === type);
          if (found !== undefined) resolve(found);
        };
        child.on("told", look);
        child.on("close", () => reject(new Error(`the process ended without ${type}`)));
        look();
      }),
  };
}
