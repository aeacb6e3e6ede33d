/**
 * A local Kimi Code service for the tests of other programs, published as `pi-provider-kimi-code/simulator`.
 *
 * It behaves as the service does: it checks credentials, refuses what the service refuses, streams answers in both dialects, and logs
 * every request. It listens on the loopback only and needs no network.
 */
import * as simulator from "./index.ts";
import type { EndpointName, Interception, RequestRecord, Scenario, Settings, SimulatorOptions } from "./types.ts";

export type {
  EndpointName,
  Framing,
  HttpAnswer,
  Interception,
  RequestRecord,
  Scenario,
  Settings,
  SimulatorOptions,
  Step,
  ToolCallSpec,
  UsageSpec,
} from "./types.ts";
export { call, calls, errorFrame, finish, pause, text, think } from "./scenario.ts";
export { faults, httpError, rateLimit } from "./faults.ts";

/** A running service. */
export interface SimulatedService {
  /** Base URL for clients: the option `baseUrl`, or `KIMI_CODE_BASE_URL`. */
  readonly url: string;
  /** Host of logins: `KIMI_CODE_OAUTH_HOST`. */
  readonly oauthHost: string;
  /** A key that the service accepts. */
  readonly apiKey: string;
  /** May be changed at any time; `reset` restores what `startSimulator` was given. */
  readonly settings: Settings;
  /**
   * Queues answers, one for each accepted chat request of either dialect. Without any, a small agent answers: it quotes the question,
   * calls the tool `bash` once if there is one, and writes JSON of the wanted form. Patterns in a schema are not followed.
   */
  script(...scenarios: Scenario[]): void;
  /** Overrides the next answers of one endpoint (`chat`, `messages`, `models`, `usages`, …), before any check. */
  intercept(endpoint: EndpointName, ...answers: Interception[]): void;
  /** The requests so far, in order of arrival, each with what was answered. */
  requests(): readonly RequestRecord[];
  /** The first request, past or future, that satisfies the predicate. Rejects after `timeoutMs`, by default 30 s. */
  waitForRequest(predicate: (request: RequestRecord) => boolean, timeoutMs?: number): Promise<RequestRecord>;
  /** Forgets requests, scripts, uploads, logins and changed settings. */
  reset(): void;
  /** Ends open connections and stops listening. */
  close(): Promise<void>;
}

/**
 * Starts a service on a free port of the loopback. `identityGate: "agent"` makes it refuse unknown programs with a 403, as the real
 * service may; by default it accepts all. Rejects if the port is in use.
 */
export async function startSimulator(options: SimulatorOptions = {}): Promise<SimulatedService> {
  const service = await simulator.startSimulator({ identityGate: "off", ...options });
  return {
    url: service.baseUrl,
    oauthHost: service.oauthHost,
    apiKey: service.apiKey,
    settings: service.settings,
    script: (...scenarios) => service.enqueue(...scenarios),
    intercept: (endpoint, ...answers) => service.intercept(endpoint, ...answers),
    requests: () => [...service.requests],
    waitForRequest: (predicate, timeoutMs) => service.waitForRequest(predicate, timeoutMs),
    reset: () => service.reset(),
    close: () => service.close(),
  };
}
