/**
 * Tells the person what a turn waits for: a retry that is due in some seconds, a service that has gone quiet,
 * files on their way.
 *
 * Pi offers a status line to extensions (docs/pi-contract.md#status-line). Every turn writes under a key of its own, because
 * several run side by side; without a screen (print, JSON) Pi ignores it. A status must never cost a turn, so nothing here
 * throws.
 */

/** What we need of Pi's `ctx.ui`. */
export interface StatusLine {
  setStatus(key: string, text: string | undefined): void;
  notify(message: string, kind: "info"): void;
}

/** A Notice op of the addon. */
export type Notice =
  | { kind: "retry"; attempt: number; attempts: number; delayMs: number; code: string; message: string }
  | { kind: "quiet"; sinceMs: number; limitMs: number | null }
  | { kind: "upload"; left: number; message: string }
  | { kind: "note"; message: string };

const REASONS: Record<string, string> = {
  overloaded: "overloaded",
  rate_limited: "rate limit",
  timeout: "no answer",
  network: "connection lost",
  empty_answer: "empty answer",
  truncated: "answer cut off",
};

/** The status line of the session that runs now. */
export class Notices {
  #line: StatusLine | undefined;
  #serial = 0;

  /** Pi hands out its line anew for every session. */
  attach(line: StatusLine): void {
    this.#line = line;
  }

  /** A place for one turn. */
  open(): TurnNotice {
    this.#serial += 1;
    const key = `kimi-code-${this.#serial}`;
    return new TurnNotice(
      (text) => this.#safely((line) => line.setStatus(key, text)),
      (text) => this.#safely((line) => line.notify(text, "info")),
    );
  }

  #safely(use: (line: StatusLine) => void): void {
    if (this.#line === undefined) return;
    try {
      use(this.#line);
    } catch {
      // A line that belongs to a session that is over.
      this.#line = undefined;
    }
  }
}

/** What one turn shows; counts seconds by itself. */
export class TurnNotice {
  readonly #write: (text: string | undefined) => void;
  readonly #tell: (text: string) => void;
  #timer: NodeJS.Timeout | undefined;
  #shown = false;

  constructor(write: (text: string | undefined) => void, tell: (text: string) => void) {
    this.#write = write;
    this.#tell = tell;
  }

  show(notice: Notice): void {
    this.clear();
    if (notice.kind === "note") return this.#tell(`Kimi: ${notice.message}`);
    if (notice.kind === "upload" && notice.left === 0) return;
    const start = Date.now();
    const update = (): void => this.#write(noticeText(notice, Date.now() - start));
    update();
    this.#shown = true;
    this.#timer = setInterval(update, 1000);
    this.#timer.unref();
  }

  /** The turn goes on, or is over. */
  clear(): void {
    if (!this.#shown) return;
    this.#shown = false;
    clearInterval(this.#timer);
    this.#write(undefined);
  }
}

/** The text of a notice so many milliseconds after it came. */
function noticeText(notice: Exclude<Notice, { kind: "note" }>, elapsedMs: number): string {
  const seconds = (ms: number): string => `${Math.max(0, Math.ceil(ms / 1000))} s`;
  switch (notice.kind) {
    case "retry": {
      const reason = REASONS[notice.code] ?? notice.message.slice(0, 60);
      const wait = notice.delayMs - elapsedMs;
      const when = wait > 0 ? ` in ${seconds(wait)}` : "";
      return `Kimi: ${reason}, attempt ${notice.attempt} of ${notice.attempts}${when}`;
    }
    case "upload":
      return `Kimi: ${notice.message}`;
    case "quiet": {
      const limit = notice.limitMs === null ? "" : `, giving up after ${seconds(notice.limitMs)}`;
      return `Kimi: silent for ${seconds(notice.sinceMs + elapsedMs)}${limit}`;
    }
  }
}
