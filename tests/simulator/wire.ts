// Plays a rendered answer onto an HTTP response: paced or as fast as the socket takes it, whole or in small chunks, to its end or
// to a cut. Independent of the dialect.

import type { ServerResponse } from "node:http";
import { commentText, countEvents, frameText, rawText, Splitter, trimEnd } from "./framing.ts";
import type { Ending, Framing, RequestRecord } from "./types.ts";

export type WireOp =
  | { kind: "frame"; data: string; event?: string }
  | { kind: "comment"; text: string }
  | { kind: "raw"; text: string }
  | { kind: "pause"; ms: number }
  | { kind: "cut"; how: "end" | "close" | "reset" }
  | { kind: "load"; data: string; event?: string; count: number; perSecond?: number };

const BLOCK_BYTES = 64 * 1024;
const PACE_MS = 4;
/** A reset overtakes unread data, so give the peer time to read. */
const RESET_GRACE_MS = 30;

export class Player {
  readonly #response: ServerResponse;
  readonly #record: RequestRecord;
  readonly #framing: Framing;
  readonly #splitter: Splitter | undefined;
  readonly #gone: AbortSignal;
  #first = true;

  constructor(response: ServerResponse, record: RequestRecord, framing: Framing, gone: AbortSignal) {
    this.#response = response;
    this.#record = record;
    this.#framing = framing;
    this.#gone = gone;
    const size = framing.chunkBytes;
    this.#splitter = size === undefined ? undefined : new Splitter(size, record.id);
  }

  /** Resolves when the answer is over; with `leaveOpen` the body is left unfinished. */
  async play(ops: Iterable<WireOp>, leaveOpen: boolean): Promise<Ending | undefined> {
    const source = ops[Symbol.iterator]();
    let next = source.next();
    while (!next.done) {
      const op = next.value;
      next = source.next();
      const last = next.done === true && !leaveOpen;
      if (op.kind === "cut") return this.#cut(op.how);
      await this.#perform(op, last);
      if (this.#gone.aborted) return "aborted";
    }
    await this.#drainSplitter();
    if (leaveOpen) return undefined;
    await this.#end();
    return this.#response.writableFinished ? "complete" : "aborted";
  }

  async #perform(op: Exclude<WireOp, { kind: "cut" }>, last: boolean): Promise<void> {
    switch (op.kind) {
      case "frame":
        return this.#text(frameText(op.data, op.event, this.#framing), last);
      case "comment":
        return this.#text(commentText(op.text, this.#framing), last);
      case "raw":
        return this.#text(rawText(op.text, this.#framing), last);
      case "pause":
        await this.#drainSplitter();
        return sleep(op.ms, this.#gone);
      case "load":
        return op.perSecond === undefined ? this.#flood(op) : this.#pace(op, op.perSecond);
    }
  }

  async #text(text: string, last: boolean): Promise<void> {
    this.#record.sentEvents += countEvents(text);
    await this.#bytes(Buffer.from(last ? trimEnd(text, this.#framing) : text));
    // One event per segment, as the service flushes them.
    await turnOfLoop();
  }

  async #bytes(bytes: Buffer): Promise<void> {
    let payload = bytes;
    if (this.#first && this.#framing.bom) payload = Buffer.concat([Buffer.from([0xef, 0xbb, 0xbf]), payload]);
    this.#first = false;
    if (this.#splitter === undefined) return this.#write(payload);
    for (const piece of this.#splitter.push(payload)) {
      await this.#write(piece);
      await turnOfLoop();
    }
  }

  async #drainSplitter(): Promise<void> {
    for (const piece of this.#splitter?.flush() ?? []) await this.#write(piece);
  }

  async #write(bytes: Buffer): Promise<void> {
    if (this.#gone.aborted || bytes.length === 0) return;
    this.#record.sentBytes += bytes.length;
    if (this.#response.write(bytes)) return;
    await new Promise<void>((resume) => {
      const done = (): void => {
        this.#response.off("drain", done);
        this.#response.off("close", done);
        resume();
      };
      this.#response.on("drain", done);
      this.#response.on("close", done);
    });
  }

  async #flood(op: { data: string; event?: string; count: number }): Promise<void> {
    const frame = Buffer.from(frameText(op.data, op.event, this.#framing));
    const perBlock = Math.max(1, Math.floor(BLOCK_BYTES / frame.length));
    const block = Buffer.concat(Array.from({ length: Math.min(perBlock, op.count) }, () => frame));
    for (let left = op.count; left > 0 && !this.#gone.aborted;) {
      const frames = Math.min(left, perBlock);
      await this.#bytes(frames * frame.length === block.length ? block : block.subarray(0, frames * frame.length));
      this.#record.sentEvents += frames;
      left -= frames;
    }
  }

  async #pace(op: { data: string; event?: string; count: number }, perSecond: number): Promise<void> {
    const frame = Buffer.from(frameText(op.data, op.event, this.#framing));
    const start = performance.now();
    for (let sent = 0; sent < op.count && !this.#gone.aborted;) {
      const due = Math.min(op.count, Math.floor(((performance.now() - start) / 1000) * perSecond) + 1);
      for (; sent < due; sent++) {
        await this.#bytes(frame);
        this.#record.sentEvents++;
      }
      if (sent < op.count) await sleep(Math.max(PACE_MS, 1000 / perSecond), this.#gone);
    }
  }

  async #cut(how: "end" | "close" | "reset"): Promise<Ending> {
    await this.#drainSplitter();
    if (how !== "end") await sleep(RESET_GRACE_MS, this.#gone);
    if (this.#gone.aborted) return "aborted";
    // Set before the close event, so that the log does not record our own close as the client's.
    this.#record.ended = how === "reset" ? "reset" : "cut";
    if (how === "end") await this.#end();
    else if (how === "reset") this.#response.socket?.resetAndDestroy();
    else this.#response.socket?.destroy();
    return this.#record.ended;
  }

  /** Resolves when the answer is passed to the system, or the connection is gone. */
  async #end(): Promise<void> {
    await new Promise<void>((done) => {
      this.#response.once("close", done);
      this.#response.end(done);
    });
  }
}

export function turnOfLoop(): Promise<void> {
  return new Promise((resume) => setImmediate(resume));
}

/** Resolves after `ms` or as soon as the signal fires. */
export function sleep(ms: number, signal: AbortSignal): Promise<void> {
  if (ms <= 0 || signal.aborted) return Promise.resolve();
  return new Promise((resume) => {
    const finish = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", finish);
      resume();
    };
    const timer = setTimeout(finish, ms);
    signal.addEventListener("abort", finish);
  });
}
