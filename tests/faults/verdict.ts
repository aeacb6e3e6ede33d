/** What is wrong with cells that were played, in words; empty lists are good. */
import { type Cell, type Played, shown } from "./matrix.ts";

/** The longest clock that a cell meets is that of small documents, 8 s. */
const BOUND_MS = 30_000;

function where({ fault, column, way, seen }: Played): string {
  return `${fault.name}, ${column}, ${way}: ${shown(seen)} in ${Math.round(seen.took)} ms`;
}

/** Ended more or less than once, or with something shown twice or not at all. */
export function broken(played: Played[]): string[] {
  const some = played.filter(({ seen }) => seen.problems.length > 0);
  return some.map((cell) => `${where(cell)}: ${cell.seen.problems.join("; ")}`);
}

/** Of another kind, or asked more or less often. */
export function unexpected(played: Played[], expected: (cell: Cell) => string | undefined): string[] {
  const some = played.filter((cell) => shown(cell.seen) !== expected(cell));
  return some.map((cell) => `${where(cell)}, expected ${expected(cell)}`);
}

export function slow(played: Played[]): string[] {
  return played.filter(({ seen }) => seen.took > BOUND_MS).map(where);
}
