/**
 * The fault matrix: its cells, their expected results, and how the outcome is written into docs/reliability.md.
 *
 * Shared by both runners, the client for Node programs (client.ts) and real Pi (pi.ts).
 */
import { DIALECTS } from "../support/turn.ts";
import type { Fault } from "./cases.ts";

/**
 * The kinds of request and their variants. All variants of a column should have the same result; the table shows where they
 * differ.
 */
export const COLUMNS = {
  "chat, once": DIALECTS,
  "chat, lasting": DIALECTS,
  "chat, after output": DIALECTS,
  "chat, stopped": DIALECTS,
  "upload, once": DIALECTS,
  "upload, lasting": DIALECTS,
  "file, once": ["file"],
  "file, lasting": ["file"],
  "models, usage, account": ["models", "usage", "account"],
  "search, fetch, data source": ["search", "fetch", "data source"],
} as const;

export type Column = keyof typeof COLUMNS;
export type Way = (typeof COLUMNS)[Column][number];

export interface Cell {
  fault: Fault;
  column: Column;
  way: Way;
}

/** Result of a call. */
export interface Seen {
  /** `answer`, `inline` (an answer, with the file inside the request), `last list`, or the error's code. */
  outcome: string;
  /** Number of requests; `undefined` if there was no server to count them. */
  requests: number | undefined;
  /** Milliseconds. */
  took: number;
  /** Violations of what is promised for every call. */
  problems: string[];
}

export type Played = Cell & { seen: Seen };

const columns = Object.keys(COLUMNS) as Column[];

/** All cells of these faults. */
export function cellsOf(faults: Fault[]): Cell[] {
  return faults.flatMap((fault) =>
    columns
      .filter((column) => exists(fault, column))
      .flatMap((column) => COLUMNS[column].map((way) => ({ fault, column, way }))),
  );
}

/** Faults of a response head cannot occur after output, and only an unreachable service can come back in time. */
function exists(fault: Fault, column: Column): boolean {
  const late = column === "chat, after output";
  switch (fault.place) {
    case "stream":
      return column.startsWith("chat");
    case "wire":
      return !late || fault.breakage.at === "\r\n\r\n";
    case "http":
      return !late;
    case "world":
      // Nothing shows when the request leaves, so there is no moment to stop at.
      if (column === "chat, stopped") return false;
      return column.endsWith("once") ? column === "chat, once" && fault.world === "refused" : !late;
  }
}

/** Expected result of a cell, as {@link shown} writes it. */
export function expected({ fault, column, way }: Cell): string {
  const { code, again } = fault;
  const told = fault.document ?? code;
  const account = fault.place === "http" && fault.account === true;
  if (column === "chat, once" || column === "chat, stopped") return again ? "answer ×2" : `${code} ×1`;
  if (column === "chat, lasting") return `${code} ×${again ? 2 : 1}`;
  if (column === "chat, after output") return `${code} ×1`;
  // Nothing can be reached, so nothing counts the requests, and the chat fails as well.
  if (fault.place === "world") return code;
  if (column.endsWith("once") && again) return "answer ×2";
  if (column.startsWith("file")) return `${told} ×${again ? 2 : 1}`;
  if (column.startsWith("upload")) return account ? `${code} ×1` : `inline ×${again ? 2 : 1}`;
  if (way === "fetch" && fault.page === true) return "answer ×1";
  // Kimi's own tools use a login, which is refreshed once.
  if (column === "search, fetch, data source" && code === "unauthorized") return `${code} ×2`;
  return `${told} ×1`;
}

/** Pi uploads what belongs to a message, and nothing else. One Pi plays all cells of a worker, so it is not stopped. */
export function isInPi({ column }: Cell): boolean {
  return !column.startsWith("file") && column !== "chat, stopped";
}

/** The expected result inside Pi. */
export function expectedInPi(cell: Cell): string {
  if (cell.way === "models") return expected(cell).replace(/^\w+/, KEPT);
  // Their timeout is 180 s and cannot be set in Pi, so the user aborts them.
  if (cell.column === "search, fetch, data source" && isSilent(cell.fault)) return "cancelled ×1";
  return expected(cell);
}

/** Nothing arrives, and nothing ends. */
export function isSilent(fault: Fault): boolean {
  return fault.place === "wire" && fault.breakage.how === "stall";
}

/** Pi keeps the models it knew. */
export const KEPT = "last list";

/** `code ×requests` */
export function shown({ outcome, requests }: Seen): string {
  return requests === undefined ? outcome : `${outcome} ×${requests}`;
}

/** Returns the table as Markdown. A cell whose variants agree, as they should, is written once. */
export function table(faults: Fault[], played: Played[]): string {
  const rows = faults.map((fault) => {
    const cells = columns.map((column) => {
      const found = played.filter((cell) => cell.fault === fault && cell.column === column);
      return agreed(found.map(({ way, seen }) => [way, shown(seen)])) || "–";
    });
    return [fault.name, ...cells];
  });
  return markdown([["fault", ...columns], ...rows]);
}

/** The most frequent result first, then the variants that differ. */
function agreed(said: [way: string, what: string][]): string {
  const groups = [...Map.groupBy(said, ([, what]) => what)].sort(([, a], [, b]) => b.length - a.length);
  return groups
    .map(([what, who], at) => (at === 0 ? what : `${who.map(([way]) => way).join(", ")}: ${what}`))
    .join("; ");
}

/** Returns the results inside Pi as Markdown: how many equal the table above, and how many differ. */
export function tableInPi(played: Played[]): string {
  const rows = columns.map((column) => {
    const cells = played.filter((cell) => cell.column === column);
    const others = cells.filter((cell) => shown(cell.seen) !== expected(cell));
    const kinds = [...Map.groupBy(others, ({ seen }) => shown(seen))].map(([kind, some]) => {
      const ways = new Set(some.map(({ way }) => way));
      const who = ways.size < COLUMNS[column].length ? `${[...ways].join(", ")}: ` : "";
      return `${who}${kind} (${some.length})`;
    });
    return [column, `${cells.length}`, `${cells.length - others.length}`, kinds.join("; ") || "–"];
  });
  const head = ["inside Pi", "cells", "as above", "otherwise"];
  return markdown([head, ...rows.filter(([, count]) => count !== "0")]);
}

function markdown([head = [], ...rows]: string[][]): string {
  const line = (cells: string[]): string => `| ${cells.join(" | ")} |`;
  return [line(head), `|${"---|".repeat(head.length)}`, ...rows.map(line)].join("\n");
}

/** Runs `work` for every item on a limited number of workers; results keep the order. */
export async function sideBySide<In, Out>(
  items: readonly In[],
  workers: number,
  work: (item: In, worker: number) => Promise<Out>,
): Promise<Out[]> {
  const results: Out[] = [];
  const left = items.entries();
  const run = async (_: unknown, worker: number): Promise<void> => {
    for (const [at, item] of left) results[at] = await work(item, worker);
  };
  await Promise.all(Array.from({ length: workers }, run));
  return results;
}
