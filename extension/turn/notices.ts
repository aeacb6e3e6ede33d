/**
 * Shows what a turn waits for: the next attempt, a silent service, uploads.
 *
 * Each turn writes its own entry of Pi's status line (docs/pi-contract.md#status-line), because several may run at once. Nothing
 * here throws, so that a status never ends a turn.
 */

/** What we use of Pi's `ctx.ui`. */
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

/** Writes to the status line of the current session. */
export class Notices {
  #line: StatusLine | undefined;
  #serial = 0;

  /** Sets the status line. Pi has a new one for each session. */
  attach(line: StatusLine): void {
    this.#line = line;
  }

  /** Creates the entry of one turn. */
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
      // The session has ended.
      this.#line = undefined;
    }
  }
}

/** The entry of one turn. Updates the seconds in its text. */
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

  /** Removes the entry. */
  clear(): void {
    if (!this.#shown) return;
    this.#shown = false;
    clearInterval(this.#timer);
    this.#write(undefined);
  }
}

/** Formats a notice that arrived `elapsedMs` ago. */
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
