/**
 * Shows what a turn waits for: the next attempt, a silent service, uploads.
 *
 * Each turn writes its own entry of Pi's status line (docs/pi-contract.md#status-line), because several may run at once. Retries
 * and uploads also replace the text beside Pi's spinner. Nothing here throws, so that a status never ends a turn.
 */

/** What we use of Pi's `ctx.ui`. */
export interface StatusLine {
  setStatus(key: string, text: string | undefined): void;
  notify(message: string, kind: "info"): void;
  /** Replaces the text beside Pi's spinner; without a text, Pi's own returns. */
  setWorkingMessage?(text?: string): void;
}

/** What notices need to know about the session. */
export interface NoticePlace {
  /** Without a screen, retries are reported on stderr. */
  hasUI: boolean;
  /** Returns the key that cancels a turn. */
  cancelKey(): string;
  /** Whether the quota stands behind the notices in the footer. */
  footer: { quotaShown: boolean };
  /** Adds to a sentence about a tool where that tool comes from. */
  named?(text: string): string;
}

const PLAIN: NoticePlace = { hasUI: true, cancelKey: () => "escape", footer: { quotaShown: false } };

/** First attempt that is reported on stderr. A single failure is common and over within a second. */
const REPORTED_ATTEMPT = 3;

/** A Notice op of the addon. */
export type Notice =
  | { kind: "retry"; attempt: number; attempts: number; delayMs: number; code: string; message: string }
  | { kind: "slot"; ahead: number | null }
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
  #place = PLAIN;
  #serial = 0;

  /** Sets the status line. Pi has a new one for each session. */
  attach(line: StatusLine, place = PLAIN): void {
    this.#line = line;
    this.#place = place;
  }

  /** Creates the entry of one turn. */
  open(): TurnNotice {
    this.#serial += 1;
    const key = `kimi-code-${this.#serial}`;
    return new TurnNotice({
      status: (text) => {
        const apart = text !== undefined && this.#place.footer.quotaShown ? `${text} │` : text;
        this.#safely((line) => line.setStatus(key, apart));
      },
      working: (text) => {
        const message = text === undefined ? undefined : `${text} (${this.#place.cancelKey()} to cancel)`;
        this.#safely((line) => line.setWorkingMessage?.(message));
      },
      note: (text) => this.#safely((line) => line.notify(this.#place.named?.(text) ?? text, "info")),
      report: (text) => {
        if (!this.#place.hasUI) process.stderr.write(`${text}\n`);
      },
    });
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

/** Where the entry of a turn is shown; `undefined` removes it there. */
interface NoticeOutput {
  status(text: string | undefined): void;
  working(text: string | undefined): void;
  note(text: string): void;
  report(text: string): void;
}

/** The entry of one turn. Updates the seconds in its text. */
export class TurnNotice {
  readonly #out: NoticeOutput;
  #timer: NodeJS.Timeout | undefined;
  #shown = false;
  #working = false;

  constructor(out: NoticeOutput) {
    this.#out = out;
  }

  show(notice: Notice): void {
    this.clear();
    if (notice.kind === "note") return this.#out.note(`Kimi: ${notice.message}`);
    if (notice.kind === "upload" && notice.left === 0) return;
    if (notice.kind === "slot" && notice.ahead === null) return;
    const start = Date.now();
    if (notice.kind === "retry" && notice.attempt >= REPORTED_ATTEMPT) this.#out.report(noticeText(notice, 0));
    this.#working = notice.kind !== "quiet";
    const update = (): void => {
      const text = noticeText(notice, Date.now() - start);
      this.#out.status(text);
      if (this.#working) this.#out.working(text);
    };
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
    this.#out.status(undefined);
    if (this.#working) this.#out.working(undefined);
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
    case "slot":
      return `Kimi: waits for a slot${notice.ahead ? `, ${notice.ahead} ahead` : ""}`;
    case "upload":
      return `Kimi: ${notice.message}`;
    case "quiet": {
      const limit = notice.limitMs === null ? "" : `, giving up after ${seconds(notice.limitMs)}`;
      return `Kimi: silent for ${seconds(notice.sinceMs + elapsedMs)}${limit}`;
    }
  }
}
