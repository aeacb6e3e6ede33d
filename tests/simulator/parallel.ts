// How many generation requests an account has under way, and the refusal above its limit (docs/protocol.md#concurrency).

import { ServiceError } from "./errors.ts";

export class Parallel {
  readonly #underWay = new Map<string, number>();

  /** Counts a request until its connection is gone. Throws the service's refusal above `limit`; 0 is no limit. */
  enter(account: string, limit: number, gone: AbortSignal): void {
    const underWay = this.#underWay.get(account) ?? 0;
    if (limit > 0 && underWay >= limit) {
      throw new ServiceError(
        403,
        "permission_error",
        "You've reached your concurrent request limit. Please wait for your ongoing requests to finish and try again.",
      );
    }
    if (gone.aborted) return;
    this.#underWay.set(account, underWay + 1);
    gone.addEventListener("abort", () => this.#underWay.set(account, (this.#underWay.get(account) ?? 1) - 1), {
      once: true,
    });
  }
}
