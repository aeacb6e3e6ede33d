// The request log and its waiters.

import type { RequestRecord } from "./types.ts";

interface Waiter {
  matches: (record: RequestRecord) => boolean;
  resolve: (record: RequestRecord) => void;
}

export class RequestLog {
  /** In order of arrival. The array keeps its identity over `clear`. */
  readonly records: RequestRecord[] = [];
  readonly #waiters = new Set<Waiter>();
  #nextId = 1;
  /** The first id since `clear`. */
  #firstId = 1;

  nextId(): number {
    return this.#nextId++;
  }

  /** Whether a request began before the last `clear`; such requests take no scenarios and wake no waiters. */
  isPast(record: RequestRecord): boolean {
    return record.id < this.#firstId;
  }

  add(record: RequestRecord): void {
    if (this.isPast(record)) return;
    this.records.push(record);
    this.changed(record);
  }

  /** Call this whenever a record gained something a test may be waiting for. */
  changed(record: RequestRecord): void {
    if (this.isPast(record)) return;
    for (const waiter of [...this.#waiters]) {
      if (waiter.matches(record)) waiter.resolve(record);
    }
  }

  /** The first record, past or future, that satisfies the predicate. */
  wait(predicate: (record: RequestRecord) => boolean, timeoutMs: number): Promise<RequestRecord> {
    const known = this.records.find(predicate);
    if (known !== undefined) return Promise.resolve(known);
    return new Promise((resolve, reject) => {
      const waiter: Waiter = {
        matches: predicate,
        resolve: (record) => {
          clearTimeout(timer);
          this.#waiters.delete(waiter);
          resolve(record);
        },
      };
      const timer = setTimeout(() => {
        this.#waiters.delete(waiter);
        const seen = this.records.map((r) => `${r.method} ${r.path} ${r.status ?? "open"} ${r.ended ?? ""}`);
        reject(new Error(`no such request within ${timeoutMs} ms; seen: ${seen.join(", ") || "none"}`));
      }, timeoutMs);
      // Errors are ignored: a finished test no longer waits for the request.
      timer.unref();
      this.#waiters.add(waiter);
    });
  }

  clear(): void {
    this.records.length = 0;
    this.#firstId = this.#nextId;
  }
}
