// A local Kimi Code service for tests: `startSimulator()` and everything needed to script it. It follows docs/protocol.md and
// real captures, never the client under test. Start with README.md.

import type { AddressInfo, Socket } from "node:net";
import type { Catalog } from "./catalog.ts";
import type { FileStore } from "./files.ts";
import type { OAuthState } from "./oauth-state.ts";
import { createFront } from "./server.ts";
import { State } from "./state.ts";
import { turnOfLoop } from "./wire.ts";
import type { Plan } from "./usage.ts";
import type { EndpointName, Interception, RequestRecord, Scenario, Settings, SimulatorOptions } from "./types.ts";

export * from "./scenario.ts";
export * from "./types.ts";
export { entitlement, faults, httpError, rateLimit } from "./faults.ts";
export { namedScenario, transcripts, transcriptText } from "./transcripts.ts";
export { catalogs } from "./catalog-variants.ts";
export { countView, ratioView, usageShapes, wallet } from "./usage.ts";
export { type PlanWindow, PlanWindows, type TokenWeights } from "./plan-windows.ts";
export { openAIScenarios } from "./scenario-variants.ts";

export interface Simulator {
  /** `http://127.0.0.1:PORT` */
  readonly origin: string;
  /** The configured base of a client: origin + `/coding`; the API lives at baseUrl + `/v1/…`. */
  readonly baseUrl: string;
  /** Same origin; OAuth lives at `/api/oauth/…`. */
  readonly oauthHost: string;
  readonly apiKey: string;
  /** Requests in order of arrival, complete with what was answered. */
  readonly requests: RequestRecord[];
  /** May be changed at any time; `reset` restores what `startSimulator` was given. */
  readonly settings: Settings;
  readonly catalog: Catalog;
  /** The uploaded files. */
  readonly files: FileStore;
  /** Quota and account: what `/usages` and `/me` say; see usage.ts. */
  readonly plan: Plan;
  /** Logins, device scripts, counters; see oauth-state.ts. */
  readonly oauth: OAuthState;
  /** Accepted tokens: the API key, and whatever a test adds. */
  readonly credentials: Set<string>;
  /** One scenario per accepted generation request of either dialect, before markers and default. */
  enqueue(...scenarios: Scenario[]): void;
  setDefault(scenario: Scenario | undefined): void;
  /** Overrides the next answers of one endpoint, ahead of credentials and validation. */
  intercept(endpoint: EndpointName, ...answers: Interception[]): void;
  /** The first request, past or future, that satisfies the predicate. Default timeout 30 s. */
  waitForRequest(predicate: (record: RequestRecord) => boolean, timeoutMs?: number): Promise<RequestRecord>;
  /** Clears log, queue, default, interceptions, caches, model list, files, settings. */
  reset(): void;
  /** Resolves when all clients are gone, so that requests of a program that has ended are logged in its own test. */
  quiet(): Promise<void>;
  /** Stops listening and destroys open connections. */
  close(): Promise<void>;
}

const LOOPBACK = new Set(["127.0.0.1", "::1", "localhost"]);

export function isLoopback(host: string): boolean {
  return LOOPBACK.has(host) || /^127(\.\d{1,3}){3}$/.test(host);
}

export async function startSimulator(options: SimulatorOptions = {}): Promise<Simulator> {
  const host = options.host ?? "127.0.0.1";
  if (!isLoopback(host)) throw new Error(`the simulator listens on loopback only, not on ${host}`);
  const state = new State(options);
  const { server, sockets } = createFront(state);
  await new Promise<void>((listening, failed) => {
    server.once("error", failed);
    server.listen(options.port ?? 0, host, listening);
  });
  const { port } = server.address() as AddressInfo;
  const origin = `http://${host.includes(":") ? `[${host}]` : host}:${port}`;
  return {
    origin,
    baseUrl: `${origin}/coding`,
    oauthHost: origin,
    apiKey: state.apiKey,
    requests: state.log.records,
    settings: state.settings,
    catalog: state.catalog,
    files: state.files,
    plan: state.plan,
    oauth: state.oauth,
    credentials: state.credentials,
    enqueue: (...scenarios) => void state.queue.push(...scenarios),
    setDefault: (scenario) => void (state.defaultScenario = scenario),
    intercept: (endpoint, ...answers) => state.intercept(endpoint, answers),
    waitForRequest: (predicate, timeoutMs = 30_000) => state.log.wait(predicate, timeoutMs),
    reset: () => state.reset(),
    quiet: () => allClosed(sockets),
    close: () =>
      new Promise((closed) => {
        server.close(() => closed());
        for (const socket of sockets) socket.destroy();
      }),
  };
}

async function allClosed(sockets: ReadonlySet<Socket>): Promise<void> {
  do {
    for (const socket of sockets) await new Promise((closed) => socket.once("close", closed));
    // A new connection that is not accepted yet appears in the next event loop turn.
    await turnOfLoop();
  } while (sockets.size > 0);
}
