/**
 * The errors of this package. The addon reports failures as data; here they become errors that a program tells apart by class or by `code`.
 *
 * `code` is the stable name. Classes group codes by what a program would do about them. Two copies of this package in one process
 * have two sets of classes but the same codes.
 */
import type { AssistantMessage, ChatMessage } from "./messages.ts";

/** Every error code. docs/troubleshooting.md lists cause and cure of each. */
export type KimiErrorCode =
  | "addon_missing"
  | "answer_too_large"
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
  | "invalid_object"
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
  | "tool_loop"
  | "truncated"
  | "unauthorized";

/** A failure as the addon reports it. */
export interface Failure {
  code: KimiErrorCode;
  message: string;
  /** HTTP status, if the service answered with one. */
  status?: number;
  /** Wait that the service asked for, in milliseconds. */
  retryAfterMs?: number;
  /** When a used-up quota window opens again, in milliseconds since 1970, where it is known. */
  resetsAt?: number;
  /** Request id for Moonshot's support. */
  traceId?: string;
}

/** Base class of all errors of this package. */
export class KimiError extends Error {
  override name = "KimiError";
  readonly code: KimiErrorCode;
  /** HTTP status, if the service answered with one. */
  readonly status: number | undefined;
  /** Wait that the service asked for, in milliseconds. */
  readonly retryAfterMs: number | undefined;
  /** When a used-up quota window opens again, in milliseconds since 1970, where it is known. */
  readonly resetsAt: number | undefined;
  /** Request id for Moonshot's support. */
  readonly traceId: string | undefined;
  /** The part of the answer that arrived before the failure. */
  readonly partial: AssistantMessage | undefined;
  /** Of `kimi.run`: the conversation up to the failure, with the results of the calls that were done. Go on with it in a new run. */
  messages: ChatMessage[] | undefined;

  constructor(failure: Failure, options: { cause?: unknown; partial?: AssistantMessage | undefined } = {}) {
    super(failure.message, "cause" in options ? { cause: options.cause } : undefined);
    this.code = failure.code;
    this.status = failure.status;
    this.retryAfterMs = failure.retryAfterMs;
    this.resetsAt = failure.resetsAt;
    this.traceId = failure.traceId;
    this.partial = options.partial;
  }
}

/** The caller's signal fired, or the loop over the events ended early. `cause` is the signal's reason. */
export class KimiAbortError extends KimiError {
  override name = "AbortError";
}

/** The native addon is missing or cannot be loaded. */
export class KimiAddonError extends KimiError {
  override name = "KimiAddonError";
}

/** The service could not be reached: `network`, `proxy`, `tls`, `timeout`. */
export class KimiConnectionError extends KimiError {
  override name = "KimiConnectionError";
}

/** The credential or the plan was not accepted: `login_required`, `unauthorized`, `entitlement`, `client_refused`. */
export class KimiAuthError extends KimiError {
  override name = "KimiAuthError";
}

/** A limit was reached: `quota_exhausted` (wait until `resetsAt`), `rate_limited` and `overloaded` (wait `retryAfterMs`). */
export class KimiLimitError extends KimiError {
  override name = "KimiLimitError";
}

/** The request has to be changed: `bad_request`, `bad_media`, `context_overflow`, `payload_too_large`, `config`. */
export class KimiRequestError extends KimiError {
  override name = "KimiRequestError";
}

/** The service failed: `server`, `protocol`, `truncated`, `empty_answer`, `answer_too_large`, `filtered`, `invalid_object`. */
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
  answer_too_large: KimiServerError,
  empty_answer: KimiServerError,
  entitlement: KimiAuthError,
  filtered: KimiServerError,
  internal: KimiError,
  invalid_object: KimiServerError,
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
  tool_loop: KimiError,
  truncated: KimiServerError,
  unauthorized: KimiAuthError,
};

/** Returns the error for a failure, of the class its code belongs to. */
export function kimiError(failure: Failure, options?: ConstructorParameters<typeof KimiError>[1]): KimiError {
  return new (CLASSES[failure.code] ?? KimiError)(failure, options);
}

/** All error codes. */
export const KIMI_ERROR_CODES = Object.keys(CLASSES) as readonly KimiErrorCode[];

/** Returns the error for a call that `signal` cancelled. */
export function cancelledError(signal: AbortSignal | undefined): KimiError {
  return kimiError({ code: "cancelled", message: "Request was aborted" }, { cause: signal?.reason });
}
