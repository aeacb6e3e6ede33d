/**
 * Notices that a model repeats tool calls whose results do not change.
 *
 * A repetition is the same tool with the same arguments and the same result, either again and again or alternating between two calls.
 * Another result resets the count, so polling is not a loop, and no call is refused before its result has repeated. A call that takes
 * long, such as `sleep 60; check`, waits for something, so it is reported but never refused.
 */

/** Repetitions after which something happens; 0 switches that off. */
export interface LoopLimits {
  /** The user is told. Default: 3. */
  warn?: number;
  /** The call is not executed, and the model is told why. Default: 5. */
  block?: number;
  /** The run ends. Default: 12. */
  stop?: number;
}

/** What to do about a call. */
export interface LoopDecision {
  action: "warn" | "block" | "stop";
  /** The reason, for the model or the user. */
  reason: string;
  /** How often the call has been made with the same result, this one included. */
  streak: number;
}

export const LOOP_LIMITS: Required<LoopLimits> = { warn: 3, block: 5, stop: 12 };

/** A call that takes this long waits for something, in milliseconds: its result may change if it is made again. */
const WAITS_MS = 10_000;

/** Least number of calls that can be a repetition: only a result that came twice shows that the call is idle. */
const LEAST_STREAK = 3;

/** Longest beginning of a known result that the model is reminded of, in characters. */
const MAX_EXCERPT = 200;

/** Adds the limits that are not given. */
export function allLimits(given: LoopLimits, defaults: Required<LoopLimits>): Required<LoopLimits> {
  const { warn = defaults.warn, block = defaults.block, stop = defaults.stop } = given;
  return { warn, block, stop };
}

/** Whether a decision is the one to tell the user about: later ones say the same. `warn` is the limit. */
export function isFirstWarning({ action, streak }: LoopDecision, warn: number): boolean {
  return action === "warn" && streak === Math.max(warn, LEAST_STREAK);
}

/** A result: its hash, how it begins, and in which message of the model its call was made. */
interface KnownResult {
  hash: string;
  excerpt: string;
  message: number;
  /** The call waited for something. */
  waited: boolean;
}

/** A call of the past. */
interface PastCall {
  call: string;
  /** When it began, by a clock that does not jump. */
  began: number;
  /** Absent while the call runs. */
  result: KnownResult | undefined;
}

/** Longest history that is needed: a pair of calls, until the run ends. */
const MAX_ENTRIES = 1000;

export class LoopGuard {
  readonly #limits: Required<LoopLimits>;
  readonly #entries: PastCall[] = [];
  /** Calls of the current message, with what was decided: identical siblings count once. */
  readonly #siblings = new Map<string, LoopDecision | undefined>();
  /** Messages of the model so far; 0 if the caller does not report them. */
  #messages = 0;

  constructor(limits: LoopLimits = {}) {
    this.#limits = allLimits(limits, LOOP_LIMITS);
  }

  /** Begins a message of the model. Optional: it lets identical calls of one message count once, even if they run one after another. */
  startMessage(): void {
    this.#messages += 1;
    this.#siblings.clear();
  }

  /** Decides about a call before it runs. A blocked call needs no `after`. */
  before(tool: string, args: unknown): LoopDecision | undefined {
    const call = `${tool} ${canonical(args)}`;
    const known = this.#siblings.get(call);
    if (this.#siblings.has(call)) return known;
    const decision = this.#decide(tool, call);
    const blocked = decision !== undefined && decision.action !== "warn";
    // A call that is not executed would have brought the same result again.
    this.#entries.push({ call, began: performance.now(), result: blocked ? this.#last(call) : undefined });
    if (this.#entries.length > MAX_ENTRIES) this.#entries.shift();
    if (this.#messages > 0 || !blocked) this.#siblings.set(call, decision);
    return decision;
  }

  /** Notes the result of a call that ran. */
  after(tool: string, args: unknown, result: unknown): void {
    const call = `${tool} ${canonical(args)}`;
    if (this.#messages === 0) this.#siblings.delete(call);
    const entry = this.#entries.findLast((one) => one.call === call && one.result === undefined);
    if (entry === undefined) return;
    const waited = performance.now() - entry.began >= WAITS_MS;
    entry.result = { hash: hash(canonical(result)), excerpt: excerptOf(result), message: this.#messages, waited };
  }

  #decide(tool: string, call: string): LoopDecision | undefined {
    const streak = Math.max(this.#repetitions(call, 1), this.#repetitions(call, 2)) + 1;
    const { warn, block, stop } = this.#limits;
    const reached = (limit: number): boolean => limit > 0 && streak >= limit;
    if (streak < LEAST_STREAK) return undefined;
    // Of two calls in turn, one may be the wait of the other.
    const isIdle = !this.#entries.slice(-2).some(({ result }) => result?.waited === true);
    if (isIdle && reached(stop)) {
      const reason = `${tool} was called ${streak} times with the same arguments and without a new result; the run was ended.`;
      return { action: "stop", streak, reason };
    }
    const seen = `${tool} was called ${streak - 1} times with the same arguments and returned the same result each time.`;
    if (isIdle && reached(block)) {
      const advice = "Use that, or try something else.";
      return {
        action: "block",
        streak,
        reason: `${seen} This call was not executed. ${this.#reminder(call)} ${advice}`,
      };
    }
    return reached(warn) ? { action: "warn", streak, reason: seen } : undefined;
  }

  /** Says what the model knows already, and from where. */
  #reminder(call: string): string {
    const known = this.#last(call);
    const ago = this.#messages - (known?.message ?? 0);
    const where =
      this.#messages === 0 || ago < 1 ? "" : `, ${ago === 1 ? "one message" : `${ago} messages`} before this one`;
    const begins = known?.excerpt ? `; it begins with: ${JSON.stringify(known.excerpt)}.` : ".";
    return `You have its result, from your last executed call${where}${begins}`;
  }

  /** Counts how often `call` has been made at the end of the history, with one call between each if `period` is 2. */
  #repetitions(call: string, period: 1 | 2): number {
    const entries = this.#entries;
    let at = entries.length - period;
    if (entries[at]?.call !== call) return 0;
    let count = 1;
    for (; at >= period; at -= period) {
      // All calls of a period have to be those of the period before.
      for (let offset = 0; offset < period; offset += 1) {
        if (!same(entries[at + offset], entries[at + offset - period])) return count;
      }
      count += 1;
    }
    return count;
  }

  #last(call: string): KnownResult | undefined {
    return this.#entries.findLast((entry) => entry.call === call && entry.result !== undefined)?.result;
  }
}

function same(one: PastCall | undefined, other: PastCall | undefined): boolean {
  if (one === undefined || other === undefined || one.call !== other.call) return false;
  // A sibling that still runs has no result yet.
  return one.result === undefined || other.result === undefined || one.result.hash === other.result.hash;
}

/** The beginning of the text in a result: of the text itself, of text parts, or of what has them as `content`. */
function excerptOf(result: unknown): string {
  const text = textOf(result)
    .slice(0, 4 * MAX_EXCERPT)
    .replace(/\s+/g, " ")
    .trim();
  return text.length > MAX_EXCERPT ? `${text.slice(0, MAX_EXCERPT)}…` : text;
}

function textOf(value: unknown): string {
  if (typeof value === "string") return value;
  if (Array.isArray(value)) return value.map(textOf).join("");
  const { text, content } = (value ?? {}) as { text?: unknown; content?: unknown };
  return typeof text === "string" ? text : content === undefined ? "" : textOf(content);
}

/** Writes a value so that the order of members does not matter. */
function canonical(value: unknown): string {
  if (typeof value === "string") return value;
  try {
    // Throws for what contains itself; the copies below would hide that.
    JSON.stringify(value);
    return (
      JSON.stringify(value, (_key, member: unknown) =>
        typeof member === "object" && member !== null && !Array.isArray(member)
          ? Object.fromEntries(Object.entries(member).toSorted(([a], [b]) => (a < b ? -1 : 1)))
          : member,
      ) ?? ""
    );
  } catch {
    // What JSON cannot hold is never equal to anything.
    return `${Math.random()}`;
  }
}

/** Hashes a text with FNV-1a in two lanes, beside its length. */
function hash(text: string): string {
  let one = 0x811c9dc5;
  let two = 0x01000193;
  for (let at = 0; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    one = Math.imul(one ^ code, 0x01000193);
    two = Math.imul(two ^ code, 0x85ebca6b);
  }
  return `${text.length} ${one} ${two}`;
}
