/** What all measurements share: medians, goals in a cell, and how a measurement is run. */

/** Runs one of the programs beside this file in a process of its own and resolves to what it prints. */
export type Program = (file: string, args: string[], variables?: Record<string, string>) => Promise<string>;

export function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

/** `12.3` or `12.3 ✓ ≤ 15`. */
export function against(value: number, goal: number | undefined): string {
  const text = value.toFixed(value < 100 ? 1 : 0);
  return goal === undefined ? text : `${text} ${value <= goal ? "✓" : "✗"} ≤ ${goal.toFixed(0)}`;
}
