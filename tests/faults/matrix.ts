/**
 * The whole fault matrix: plays every cell, says what each should have been, and writes the table of docs/reliability.md.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Dialect, DIALECTS } from "../support/turn.ts";
import type { Fault } from "./cases.ts";
import { exists, play, type Seen } from "./cells.ts";
import { type Column, COLUMNS } from "./stage.ts";

/** Cells that run at the same time: they mostly wait. */
const SIDE_BY_SIDE = 8;

export interface Cell {
  fault: Fault;
  column: Column;
  dialect: Dialect;
  seen: Seen;
}

/** What a cell has to bring, as {@link shown} writes it. */
export function expected(fault: Fault, column: Column): string {
  const { code, again } = fault;
  const account = fault.place === "http" && fault.account === true;
  if (column === "chat, once") return again ? "answer ×2" : `${code} ×1`;
  if (column === "chat, lasting") return `${code} ×${again ? 2 : 1}`;
  if (column === "chat, after output") return `${code} ×1`;
  // Nobody can be reached, so nobody can count, and the chat fails as well.
  if (fault.place === "world") return code;
  if (column === "upload, once" && again) return "answer ×2";
  if (column.startsWith("upload")) return account ? `${code} ×1` : `inline ×${again ? 2 : 1}`;
  // Kimi's own tools take a login, which is refreshed once.
  if (column === "services" && code === "unauthorized") return `${code} ×2`;
  return `${fault.document ?? code} ×1`;
}

/** `code ×requests` */
export function shown({ outcome, requests }: Seen): string {
  return requests === undefined ? outcome : `${outcome} ×${requests}`;
}

/** Plays all cells of these faults. */
export async function playAll(faults: Fault[]): Promise<Cell[]> {
  const homes = mkdtempSync(join(tmpdir(), "kimi-faults-"));
  const cells = faults.flatMap((fault) =>
    COLUMNS.filter((column) => exists(fault, column)).flatMap((column) =>
      // Only chats have dialects.
      DIALECTS.slice(0, column.startsWith("chat") ? 2 : 1).map((dialect) => ({ fault, column, dialect })),
    ),
  );
  try {
    return await sideBySide(cells, async ({ fault, column, dialect }) => {
      return { fault, column, dialect, seen: await play(fault, column, dialect, homes) };
    });
  } finally {
    rmSync(homes, { recursive: true, force: true });
  }
}

/** `work` on every item, some at a time; results in order. */
export async function sideBySide<In, Out>(items: readonly In[], work: (item: In) => Promise<Out>): Promise<Out[]> {
  const results: Out[] = [];
  const left = items.entries();
  const worker = async (): Promise<void> => {
    for (const [at, item] of left) results[at] = await work(item);
  };
  await Promise.all(Array.from({ length: SIDE_BY_SIDE }, worker));
  return results;
}

/** The table, as Markdown. Where the dialects agree, as they should, a cell is written once. */
export function table(faults: Fault[], cells: Cell[]): string {
  const rows = faults.map((fault) => {
    const columns = COLUMNS.map((column) => {
      const found = cells.filter((cell) => cell.fault === fault && cell.column === column);
      return [...new Set(found.map(({ seen }) => shown(seen)))].join(", ") || "–";
    });
    return `| ${[fault.name, ...columns].join(" | ")} |`;
  });
  return [`| fault | ${COLUMNS.join(" | ")} |`, `|${"---|".repeat(COLUMNS.length + 1)}`, ...rows].join("\n");
}
