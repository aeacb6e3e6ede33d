/**
 * Writes requests to the addon and reads its answers, both JSON texts.
 */
import { environment, type ExtensionEnvironment, type Host } from "../environment.ts";

/** A failure as the addon reports it. */
export interface AddonFailure {
  code: string;
  message: string;
  /** HTTP status, where there was one. */
  status?: number;
  /** How long the service asked to wait. */
  retryAfterMs?: number;
  /** What Moonshot's support asks for. */
  traceId?: string;
}

/** A failed call. */
export class AddonError extends Error {
  readonly code: string;

  constructor({ code, message }: AddonFailure) {
    super(message);
    this.code = code;
  }
}

/** Who asks: sent with every request. */
export interface Caller {
  host: Host;
  extensionEnvironment?: ExtensionEnvironment | undefined;
}

/** Writes a request about the caller's account. */
export function requestText({ host, extensionEnvironment }: Caller, more: object = {}): string {
  return JSON.stringify({ environment: environment(extensionEnvironment?.variables()), host, ...more });
}

/** Returns the value of an answer, or throws its error. */
export function parseAnswer<T>(text: string, toError = (failure: AddonFailure): Error => new AddonError(failure)): T {
  const answer = JSON.parse(text) as T & { error?: AddonFailure };
  if (answer.error !== undefined) throw toError(answer.error);
  return answer;
}
