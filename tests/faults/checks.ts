/** Describes what is wrong with cells that ran; empty lists mean success. */
import { type Cell, type Played, shown } from "./matrix.ts";

/** Longest timeout of any cell: 8 s, for small documents. */
const BOUND_MS = 30_000;

function where({ fault, column, way, seen }: Played): string {
  return `${fault.name}, ${column}, ${way}: ${shown(seen)} in ${Math.round(seen.took)} ms`;
}

/** Cells that ended more or less than once, or showed text twice or not at all. */
export function broken(played: Played[]): string[] {
  const some = played.filter(({ seen }) => seen.problems.length > 0);
  return some.map((cell) => `${where(cell)}: ${cell.seen.problems.join("; ")}`);
}

/** Cells with another kind of error or another number of requests. */
export function unexpected(played: Played[], expected: (cell: Cell) => string | undefined): string[] {
  const some = played.filter((cell) => shown(cell.seen) !== expected(cell));
  return some.map((cell) => `${where(cell)}, expected ${expected(cell)}`);
}

export function slow(played: Played[]): string[] {
  return played.filter(({ seen }) => seen.took > BOUND_MS).map(where);
}
