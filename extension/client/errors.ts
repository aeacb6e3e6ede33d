/**
 * The addon reports failures as data; here they become errors that a program can tell apart, by class or by `code`.
 *
 * `code` is the stable name. Classes group codes by what a program would do about them; two copies of this package in one process
 * have two sets of classes, but the same codes.
 */
import { AddonError, onAbort, parseAnswer } from "../native/call.ts";
import type { AssistantMessage } from "./messages.ts";

/** Every `code` there is; docs/troubleshooting.md says for each what causes and what cures it. */
export type KimiErrorCode =
  | "addon_missing"
  | "bad_media"
  | "bad_request"
  | "cancelled"
  | "client_refused"
  | "config"
  | "context_overflow"
  | "empty_answer"
  | "entitlement"
  | "filtered"
  | "internal"
  | "io"
  | "login_required"
  | "network"
  | "overloaded"
  | "payload_too_large"
  | "protocol"
  | "proxy"
  | "quota_exhausted"
  | "rate_limited"
  | "server"
  | "timeout"
  | "tls"
  | "truncated"
  | "unauthorized";

/** A failure as the addon reports it. */
export interface Failure {
  code: KimiErrorCode;
  message: string;
  status?: number;
  retryAfterMs?: number;
  traceId?: string;
}

/** Base of all errors of this package. */
export class KimiError extends Error {
  override name = "KimiError";
  readonly code: KimiErrorCode;
  /** HTTP status, if the service gave one. */
  readonly status: number | undefined;
  /** How long the service asks to wait, in milliseconds. */
  readonly retryAfterMs: number | undefined;
  /** What Moonshot's support asks for. */
  readonly traceId: string | undefined;
  /** What had arrived before the failure. */
  readonly partial: AssistantMessage | undefined;

  constructor(failure: Failure, options: { cause?: unknown; partial?: AssistantMessage | undefined } = {}) {
    super(failure.message, "cause" in options ? { cause: options.cause } : undefined);
    this.code = failure.code;
    this.status = failure.status;
    this.retryAfterMs = failure.retryAfterMs;
    this.traceId = failure.traceId;
    this.partial = options.partial;
  }
}

/** The caller's signal fired or iteration stopped early. Its `cause` is the signal's reason. */
export class KimiAbortError extends KimiError {
  override name = "AbortError";
}

/** The native part is missing or unusable; nothing can work. */
export class KimiAddonError extends KimiError {
  override name = "KimiAddonError";
}

/** The service was not reached: `network`, `proxy`, `tls`, `timeout`. */
export class KimiConnectionError extends KimiError {
  override name = "KimiConnectionError";
}

/** Who you are or what your plan includes: `login_required`, `unauthorized`, `entitlement`, `client_refused`. */
export class KimiAuthError extends KimiError {
  override name = "KimiAuthError";
}

/** Too much: `quota_exhausted` (wait for the window), `rate_limited` and `overloaded` (wait `retryAfterMs`). */
export class KimiLimitError extends KimiError {
  override name = "KimiLimitError";
}

/** The request cannot be answered as it is: `bad_request`, `bad_media`, `context_overflow`, `payload_too_large`, `config`. */
export class KimiRequestError extends KimiError {
  override name = "KimiRequestError";
}

/** The service failed in the middle: `server`, `protocol`, `truncated`, `empty_answer`, `filtered`. */
export class KimiServerError extends KimiError {
  override name = "KimiServerError";
}

const CLASSES: { [code in KimiErrorCode]: typeof KimiError } = {
  addon_missing: KimiAddonError,
  bad_media: KimiRequestError,
  bad_request: KimiRequestError,
  cancelled: KimiAbortError,
  client_refused: KimiAuthError,
  config: KimiRequestError,
  context_overflow: KimiRequestError,
  empty_answer: KimiServerError,
  entitlement: KimiAuthError,
  filtered: KimiServerError,
  internal: KimiError,
  io: KimiError,
  login_required: KimiAuthError,
  network: KimiConnectionError,
  overloaded: KimiLimitError,
  payload_too_large: KimiRequestError,
  protocol: KimiServerError,
  proxy: KimiConnectionError,
  quota_exhausted: KimiLimitError,
  rate_limited: KimiLimitError,
  server: KimiServerError,
  timeout: KimiConnectionError,
  tls: KimiConnectionError,
  truncated: KimiServerError,
  unauthorized: KimiAuthError,
};

/** The error for a failure, of the class its code belongs to. */
export function kimiError(failure: Failure, options?: ConstructorParameters<typeof KimiError>[1]): KimiError {
  return new (CLASSES[failure.code] ?? KimiError)(failure, options);
}

/** All codes. */
export const KIMI_ERROR_CODES = Object.keys(CLASSES) as readonly KimiErrorCode[];

/** Stops waiting. The addon's question may go on for some seconds; its answer is dropped. */
export interface Cancellable {
  signal?: AbortSignal;
}

/** The value of an answer (JSON text), or its error. */
export function answerValue<T>(text: string): T {
  return parseAnswer<T>(text, (failure) => kimiError(failure as Failure));
}

/** Waits for an answer. */
export async function awaitAnswer<T>(answer: Promise<string>, { signal }: Cancellable): Promise<T> {
  const stopped = new Promise<never>((_resolve, reject) => {
    const stopListening = onAbort(signal, () =>
      reject(kimiError({ code: "cancelled", message: "Request was aborted" }, { cause: signal?.reason })),
    );
    answer.then(stopListening, stopListening);
  });
  return answerValue<T>(await Promise.race([answer, stopped]));
}

export interface ServiceCallOptions extends Cancellable {
  /** For the whole call, 180,000 ms if not given. */
  timeoutMs?: number;
}

/** Waits for a call; its failure becomes a `KimiError`. */
export async function awaitServiceCall<T>(call: Promise<T>, { signal }: Cancellable): Promise<T> {
  try {
    return await call;
  } catch (error) {
    if (!(error instanceof AddonError)) throw error;
    const failure = error.failure as Failure;
    throw kimiError(failure, failure.code === "cancelled" ? { cause: signal?.reason } : {});
  }
}
