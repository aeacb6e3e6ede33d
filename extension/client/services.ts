/**
 * Kimi's own tools for programs: the calls of services.ts, with this package's errors.
 */
import { KimiServiceError } from "../services.ts";
import type { Cancellable } from "./asking.ts";
import { type Failure, kimiError } from "./errors.ts";

export interface ServiceCallOptions extends Cancellable {
  /** For the whole call, 180,000 ms if not given. */
  timeoutMs?: number;
}

/** Waits for a call; its failure becomes a `KimiError`. */
export async function served<T>(call: Promise<T>, { signal }: Cancellable): Promise<T> {
  try {
    return await call;
  } catch (error) {
    if (!(error instanceof KimiServiceError)) throw error;
    const { message, status, retryAfterMs, requestId } = error;
    const failure: Failure = {
      code: error.code as Failure["code"],
      message,
      ...(status === undefined ? {} : { status }),
      ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
      ...(requestId === undefined ? {} : { traceId: requestId }),
    };
    throw kimiError(failure, failure.code === "cancelled" ? { cause: signal?.reason } : {});
  }
}
