/**
 * Shows what a turn waits for: the next attempt, a silent service, uploads, a quota window. Asks what should happen at the end of a
 * window.
 *
 * Each turn writes its own entry of Pi's status line (docs/pi-contract.md#status-line), because several may run at once. Retries,
 * uploads and parked turns also replace the text beside Pi's spinner. Nothing here throws, so that a status never ends a turn.
 */

/** What we use of Pi's `ctx.ui`. */
export interface StatusLine {
  setStatus(key: string, text: string | undefined): void;
  notify(message: string, kind: "info"): void;
  /** Replaces the text beside Pi's spinner; without a text, Pi's own returns. */
  setWorkingMessage?(text?: string): void;
  /** Lets the user choose; `undefined` if the dialog was left. */
  select?(title: string, choices: string[], options: { signal: AbortSignal }): Promise<string | undefined>;
}

/** What notices need to know about the session. */
export interface NoticePlace {
  /** Without a user to see them, retries are reported on stderr. */
  hasUI: boolean;
  /** The user sits in front of this process's own screen. */
  isTerminal: boolean;
  /** Returns the key that cancels a turn. */
  cancelKey(): string;
  /** Whether the quota stands behind the notices in the footer. */
  footer: { quotaShown: boolean };
  /** Adds to a sentence about a tool where that tool comes from. */
  named?(text: string): string;
  /** Makes waiting at the end of a quota window the setting. */
  alwaysWait(): void;
}

const PLAIN: NoticePlace = {
  hasUI: true,
  isTerminal: false,
  cancelKey: () => "escape",
  footer: { quotaShown: false },
  alwaysWait: () => undefined,
};

/** First attempt that is reported on stderr. A single failure is common and over within a second. */
const REPORTED_ATTEMPT = 3;

/** A Notice op of the addon. */
export type Notice =
  | { kind: "retry"; attempt: number; attempts: number; delayMs: number; code: string; message: string }
  | { kind: "slot"; ahead: number | null }
  | { kind: "quiet"; sinceMs: number; limitMs: number | null }
  | { kind: "upload"; left: number; message: string }
  | { kind: "note"; message: string }
  | { kind: "advice"; message: string }
  | ParkedNotice
  | { kind: "resumed" }
  | { kind: "cost"; window: string; percent: number }
  | QuotaQuestion;

/** The turn waits for a quota window; `at` is when it opens, as the user's clock shows it. */
interface ParkedNotice {
  kind: "parked";
  short: string;
  /** The window is used up. Otherwise its reserve is reached. */
  usedUp: boolean;
  resetsAt: number;
  at: string | null;
}

/** Asks for `wait` or `stop`; `opens` is "opens 04:32 (in 2 h 13 min)". */
export interface QuotaQuestion {
  kind: "quotaQuestion";
  label: string;
  /** The window is used up. Otherwise its reserve is reached. */
  usedUp: boolean;
  opens: string | null;
}

/** What users choose from at the end of a window. */
const CHOICES = {
  wait: "Wait, and continue by itself",
  stop: "Stop",
  always: "Always wait",
};

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

  /** Whether a question can be put to the user. */
  get canAsk(): boolean {
    return this.#place.hasUI && this.#line?.select !== undefined;
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
        this.#safely((line) => line.setWorkingMessage?.(text));
      },
      cancelKey: () => (this.#place.isTerminal ? this.#place.cancelKey() : undefined),
      ask: (title, choices, signal) => this.#ask(title, choices, signal),
      alwaysWait: () => this.#place.alwaysWait(),
      note: (text) => this.#safely((line) => line.notify(this.#place.named?.(text) ?? text, "info")),
      report: (text) => {
        if (!this.#place.hasUI) process.stderr.write(`${text}\n`);
      },
    });
  }

  async #ask(title: string, choices: string[], signal: AbortSignal): Promise<string | undefined> {
    try {
      return await this.#line?.select?.(title, choices, { signal });
    } catch {
      // The session has ended.
      return undefined;
    }
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
  /** The key that cancels a turn, if the user has one here. */
  cancelKey(): string | undefined;
  ask(title: string, choices: string[], signal: AbortSignal): Promise<string | undefined>;
  alwaysWait(): void;
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

  show(notice: Exclude<Notice, QuotaQuestion>): void {
    this.clear();
    if (notice.kind === "note" || notice.kind === "advice") return this.#out.note(`Kimi: ${notice.message}`);
    if (notice.kind === "resumed" || (notice.kind === "upload" && notice.left === 0)) return;
    if (notice.kind === "slot" && notice.ahead === null) return;
    const start = Date.now();
    if (notice.kind === "parked" || (notice.kind === "retry" && notice.attempt >= REPORTED_ATTEMPT)) {
      this.#out.report(noticeText(notice, 0));
    }
    const ending = workingEnd(notice, this.#out.cancelKey());
    this.#working = ending !== undefined;
    let shown = "";
    const update = (): void => {
      const text = noticeText(notice, Date.now() - start);
      // A parked turn changes its text once a minute.
      if (text === shown) return;
      shown = text;
      this.#out.status(notice.kind === "parked" ? `${text}${ending ?? ""}` : text);
      if (this.#working) this.#out.working(`${text}${ending ?? ""}`);
    };
    update();
    this.#shown = true;
    this.#timer = setInterval(update, 1000);
    this.#timer.unref();
  }

  /** Asks what should happen at the end of a quota window. Who leaves the dialog stops the turn. */
  async ask({ label, usedUp, opens }: QuotaQuestion, signal: AbortSignal): Promise<"wait" | "stop"> {
    this.clear();
    const state = usedUp ? "is used up" : "is down to its reserve";
    const title = `Kimi: ${label} ${state}${opens === null ? "" : `, ${opens}`}`;
    const choice = await this.#out.ask(title, Object.values(CHOICES), signal);
    if (choice !== CHOICES.always) return choice === CHOICES.wait ? "wait" : "stop";
    try {
      this.#out.alwaysWait();
    } catch (error) {
      this.#out.note(`Kimi: the choice could not be kept: ${error instanceof Error ? error.message : String(error)}`);
    }
    return "wait";
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

/** Returns how the text beside Pi's spinner ends; `undefined` for a notice that is not shown there. */
function workingEnd({ kind }: Notice, key: string | undefined): string | undefined {
  if (kind === "retry" || kind === "slot" || kind === "upload") return ` (${key ?? "escape"} to cancel)`;
  if (kind !== "parked") return undefined;
  return key === undefined ? "" : ` · ${key === "escape" ? "Esc" : key} stops`;
}

/** Formats the time left: `90 s`, `12 min`, `1 h 12 min`, `2 d 3 h`. */
function timeLeft(ms: number): string {
  const seconds = Math.max(0, Math.ceil(ms / 1000));
  if (seconds < 120) return `${seconds} s`;
  const minutes = Math.ceil(seconds / 60);
  const [days, hours, rest] = [Math.floor(minutes / 1440), Math.floor(minutes / 60) % 24, minutes % 60];
  const units =
    days > 0 ? [`${days} d`, hours > 0 && `${hours} h`] : [hours > 0 && `${hours} h`, rest > 0 && `${rest} min`];
  return units.filter(Boolean).join(" ");
}

/** Formats a notice that arrived `elapsedMs` ago. */
function noticeText(
  notice: Exclude<Notice, QuotaQuestion | { kind: "note" | "advice" | "resumed" }>,
  elapsedMs: number,
): string {
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
    case "parked": {
      const left = notice.resetsAt - Date.now();
      const when = left > 0 ? `${notice.at ?? ""} (in ${timeLeft(left)})` : "within a minute";
      return `Kimi ${notice.short} ${notice.usedUp ? "full" : "reserve reached"} · continues ${when}`;
    }
    case "cost":
      return `Kimi: ≈ ${notice.percent} % of ${notice.window}`;
  }
}
