/**
 * Writes requests to the addon, reads its answers, and cancels calls. Requests and answers are JSON texts.
 */
import { homedir } from "node:os";
import { join } from "node:path";
import { environment, type ExtensionEnvironment, type Host } from "../environment.ts";
import { cancelledError, type Failure, kimiError } from "../errors.ts";
import type { Addon } from "./addon.ts";

/** Identifies the program that calls; part of every request. */
export interface Caller {
  host: Host;
  extensionEnvironment?: ExtensionEnvironment | undefined;
}

/** Writes a request about the caller's account. */
export function requestText({ host, extensionEnvironment }: Caller, more: object = {}): string {
  return JSON.stringify({ environment: environment(extensionEnvironment?.variables()), host, ...more });
}

/** Returns the value of an answer, or throws its error. `signal` is what may have cancelled the call. */
export function parseAnswer<T>(text: string, signal?: AbortSignal): T {
  const answer = JSON.parse(text) as T & { error?: Failure };
  const failure = answer.error;
  if (failure !== undefined) throw kimiError(failure, failure.code === "cancelled" ? { cause: signal?.reason } : {});
  return answer;
}

/** Runs `work` and calls `cancel` when `signal` fires, at once if it already has. */
export async function withAbort<T>(
  signal: AbortSignal | undefined,
  cancel: () => void,
  work: () => Promise<T>,
): Promise<T> {
  signal?.addEventListener("abort", cancel, { once: true });
  try {
    if (signal?.aborted) cancel();
    return await work();
  } finally {
    signal?.removeEventListener("abort", cancel);
  }
}

/** Waits for an answer; rejects when `signal` fires. The addon may go on for some seconds, and its answer is dropped. */
export async function awaitAnswer<T>(answer: Promise<string>, signal: AbortSignal | undefined): Promise<T> {
  const text = await new Promise<string>((resolve, reject) => {
    const cancel = (): void => reject(cancelledError(signal));
    withAbort(signal, cancel, () => answer).then(resolve, reject);
  });
  return parseAnswer<T>(text);
}

/** Writes the log to its usual place, as `KIMI_CODE_DEBUG=1` asks. */
export function logToFile(addon: Addon): void {
  addon.logTo(join(homedir(), ".pi", "pi-provider-kimi-code", "debug.log"));
}
