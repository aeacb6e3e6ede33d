/**
 * Single questions to the service: the addon's answers as values and errors, given up when the caller says so.
 */
import { type Failure, kimiError } from "./errors.ts";

/** Stops waiting. The addon's question may go on for some seconds; its answer is dropped. */
export interface Cancellable {
  signal?: AbortSignal;
}

/** The value of an answer (JSON text), or its error. */
export function value<T>(text: string): T {
  const answer = JSON.parse(text) as T & { error?: Failure };
  if (answer.error !== undefined) throw kimiError(answer.error);
  return answer;
}

/** Waits for an answer. */
export async function answered<T>(answer: Promise<string>, { signal }: Cancellable): Promise<T> {
  const stopped = new Promise<never>((_resolve, reject) => {
    const stop = (): void => {
      reject(kimiError({ code: "cancelled", message: "Request was aborted" }, { cause: signal?.reason }));
    };
    if (signal?.aborted) return stop();
    signal?.addEventListener("abort", stop, { once: true });
    const forget = (): void => signal?.removeEventListener("abort", stop);
    return void answer.then(forget, forget);
  });
  return value<T>(await Promise.race([answer, stopped]));
}
