/**
 * Formats what the plan was spent on, for `/kimi-usage --history`. Loaded on first use.
 */
import type { ExtensionContext, Theme } from "@earendil-works/pi-coding-agent";
import { failure, say } from "../command-output.ts";
import type { PiCredentials } from "../credential.ts";
import type { AddonQueries, Credential, HistoryBy, HistoryRow, UsageHistory } from "../queries.ts";
import { bar } from "../quota.ts";

const USAGE = "Usage: /kimi-usage --history 7d --by session|project|model|day [--json]";

const BY: readonly HistoryBy[] = ["session", "project", "model", "day"];

const DEFAULT_SPAN = "7d";

/** Rows of the table; the rest is added up in one row. */
const MAX_ROWS = 20;

/** Widths in columns. */
const NARROW = 60;
const WIDE = 160;
const LABEL = 24;
const BAR = 40;
const NUMBER = 9;

const DAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

/** Runs `/kimi-usage --history 7d --by session [--json]`. */
export async function kimiHistory(
  args: string,
  ctx: ExtensionContext,
  queries: AddonQueries,
  credentials: PiCredentials,
): Promise<void> {
  const credential = await credentials.current(ctx).catch(() => ({}));
  say(
    ctx,
    await historyText(
      queries,
      credential,
      ctx,
      args.split(/\s+/).filter((word) => word !== ""),
    ),
  );
}

async function historyText(
  queries: AddonQueries,
  credential: Credential,
  ctx: ExtensionContext,
  words: string[],
): Promise<string> {
  const asked = parse(words);
  if (asked === undefined) return USAGE;
  const { span, by, json } = asked;
  const session = ctx.sessionManager.getSessionId();
  const history = await queries.history(credential, span, by, session).catch(failure);
  if (json) return JSON.stringify(history);
  if ("error" in history) return history.error;
  const theme = ctx.mode === "tui" ? ctx.ui.theme : undefined;
  return historyRows(history, span, process.stdout.columns || 100, theme).join("\n");
}

/** Reads `--history 7d`, `--history=7d` and the like; `undefined` for anything else. */
function parse(words: string[]): { span: string; by: HistoryBy; json: boolean } | undefined {
  const left = words.flatMap((word) => (word.startsWith("--") ? word.split("=") : [word]));
  let [span, by, json]: [string, HistoryBy, boolean] = [DEFAULT_SPAN, "session", false];
  while (left.length > 0) {
    const word = left.shift();
    if (word === "--json") json = true;
    else if (word === "--history")
      span = left[0] === undefined || left[0].startsWith("--") ? span : (left.shift() ?? "");
    else if (word === "--by") {
      const known = BY.find((each) => each === left[0]);
      if (known === undefined) return undefined;
      by = known;
      left.shift();
    } else return undefined;
  }
  return { span, by, json };
}

/** Formats a history as rows of at most `width` columns. */
export function historyRows(history: UsageHistory, span: string, width: number, theme?: Theme): string[] {
  const { rows, by, elsewhere, forecast } = history;
  const paint = (color: "text" | "dim" | "warning", text: string): string => theme?.fg(color, text) ?? text;
  if (rows.length === 0) return [paint("text", `No request of the last ${span} is recorded.`)];
  const shown = shortened(rows);
  const table = new Table(width, shown, theme);
  const lines = [paint("text", `Usage of the last ${span} by ${by}`), paint("dim", table.head(by))];
  lines.push(...shown.map((row) => table.row(row)));
  if (Object.values(elsewhere).some((percent) => percent !== null && percent > 0)) {
    lines.push(table.row({ ...NOTHING, label: "elsewhere", percent: elsewhere }));
  }
  if (shown.every(({ percent }) => Object.values(percent).every((each) => each === null))) {
    lines.push(paint("dim", table.fit("Percents are known after 20 readings of the quota.")));
  }
  for (const [window, { fullAt }] of Object.entries(forecast)) {
    if (fullAt !== null) lines.push(paint("warning", table.fit(`At this pace, ${window} is full ${clock(fullAt)}.`)));
  }
  if (history.advice !== null) lines.push(...table.wrapped(history.advice.text).map((line) => paint("text", line)));
  return lines;
}

const NOTHING: HistoryRow = {
  key: "",
  label: "",
  requests: 0,
  uncached: 0,
  cached: 0,
  output: 0,
  reasoning: 0,
  percent: {},
};

/** Adds up the rows that do not fit. */
function shortened(rows: HistoryRow[]): HistoryRow[] {
  if (rows.length <= MAX_ROWS) return rows;
  const rest = rows.slice(MAX_ROWS - 1);
  const sum = (part: (row: HistoryRow) => number | null): number =>
    rest.reduce((total, row) => total + (part(row) ?? 0), 0);
  const windows = Object.entries(rest[0]?.percent ?? {});
  const percent = windows.map(([window, known]) => [
    window,
    known === null ? null : sum((row) => row.percent[window] ?? 0),
  ]);
  const other: HistoryRow = {
    key: "",
    label: `${rest.length} others`,
    requests: sum((row) => row.requests),
    uncached: sum((row) => row.uncached),
    cached: sum((row) => row.cached),
    output: sum((row) => row.output),
    reasoning: sum((row) => row.reasoning),
    percent: Object.fromEntries(percent) as HistoryRow["percent"],
  };
  return [...rows.slice(0, MAX_ROWS - 1), other];
}

/** Lays out rows: label, bar, shares of the windows, requests, and tokens where there is room. */
class Table {
  readonly #width: number;
  readonly #labels: number;
  readonly #bar: number;
  readonly #tokens: boolean;
  readonly #size: (row: HistoryRow) => number;
  readonly #largest: number;
  readonly #theme: Theme | undefined;

  constructor(width: number, rows: HistoryRow[], theme: Theme | undefined) {
    // Pi keeps a column free on both sides.
    this.#width = Math.min(Math.max(width, NARROW), WIDE) - 2;
    this.#theme = theme;
    this.#labels = Math.min(
      this.#width < 80 ? LABEL - 8 : LABEL,
      Math.max(9, ...rows.map(({ label }) => label.length)),
    );
    const numbers = 3 * NUMBER;
    this.#tokens = this.#width - this.#labels - numbers - 3 * NUMBER >= 14;
    const left = this.#width - this.#labels - numbers - (this.#tokens ? 3 * NUMBER : 0) - 2;
    this.#bar = Math.max(4, Math.min(BAR, left));
    const known = (window: string): boolean => rows.some(({ percent }) => (percent[window] ?? null) !== null);
    const window = ["7d", "5h"].find(known);
    // Without known costs, bars compare prompt and answer tokens by their usual prices.
    this.#size = (row) =>
      window === undefined ? row.uncached + row.cached / 10 + row.output * 4 : (row.percent[window] ?? 0);
    this.#largest = Math.max(...rows.map(this.#size), 1e-9);
  }

  head(by: HistoryBy): string {
    const tokens = this.#tokens ? ["uncached", "cached", "output"] : [];
    const words = ["wk", "5h", "requests", ...tokens].map((word) => word.padStart(NUMBER));
    return `${by.padEnd(this.#labels)}  ${" ".repeat(this.#bar)}${words.join("")}`;
  }

  row(row: HistoryRow): string {
    const theme = this.#theme;
    const paint = (text: string, rest: boolean): string => theme?.fg(rest ? "dim" : "accent", text) ?? text;
    const measure = bar(Math.min(this.#size(row) / this.#largest, 1), this.#bar, paint);
    const tokens = this.#tokens ? [row.uncached, row.cached, row.output].map(count) : [];
    const numbers = [share(row.percent["7d"]), share(row.percent["5h"]), row.requests === 0 ? "" : `${row.requests}`];
    const words = [...numbers, ...(row.requests === 0 ? tokens.map(() => "") : tokens)].map((word) =>
      word.padStart(NUMBER),
    );
    const label = row.label.length > this.#labels ? `${row.label.slice(0, this.#labels - 1)}…` : row.label;
    const text = (words: string): string => theme?.fg("text", words) ?? words;
    return `${text(label.padEnd(this.#labels))}  ${measure}${text(words.join("").trimEnd())}`;
  }

  /** Shortens a line. */
  fit(line: string): string {
    return line.length > this.#width ? `${line.slice(0, this.#width - 1)}…` : line;
  }

  /** Breaks a sentence into lines. */
  wrapped(sentence: string): string[] {
    const lines = [""];
    for (const word of sentence.split(" ")) {
      const last = lines.at(-1) ?? "";
      if (last.length + 1 + word.length > this.#width) lines.push(word);
      else lines[lines.length - 1] = last === "" ? word : `${last} ${word}`;
    }
    return lines;
  }
}

/** Formats a share: `12.4%`; `–` where it is unknown. */
function share(percent: number | null | undefined): string {
  if (percent === null || percent === undefined) return "–";
  return percent > 0 && percent < 0.1 ? "<0.1%" : `${percent.toFixed(1)}%`;
}

/** Formats a number of tokens: `812`, `12.3k`, `4.1M`, `2.0B`. */
function count(tokens: number): string {
  if (tokens < 1000) return String(tokens);
  const [size, unit] =
    tokens < 999_500 ? [tokens / 1e3, "k"] : tokens < 999_500_000 ? [tokens / 1e6, "M"] : [tokens / 1e9, "B"];
  return `${size < 100 ? size.toFixed(1) : Math.round(size)}${unit}`;
}

/** Formats a moment of the coming days: `at 13:50`, `on Fri at 13:50`. */
function clock(at: number): string {
  const then = new Date(at);
  const time = [then.getHours(), then.getMinutes()].map((part) => String(part).padStart(2, "0")).join(":");
  return then.toDateString() === new Date().toDateString() ? `at ${time}` : `on ${DAYS[then.getDay()]} at ${time}`;
}
