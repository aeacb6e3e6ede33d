/** Collects the results of a bench run: text for the reader, and one row per goal. */

/** A measured value and its goal. */
export interface Bar {
  what: string;
  value: number;
  unit: string;
  goal: number;
  met: boolean;
}

export function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

const number = (value: number): string => value.toFixed(Math.abs(value) < 100 ? 1 : 0);

export class Report {
  readonly bars: Bar[] = [];
  readonly lines: string[] = [];

  /** Prints lines at once, because a whole run takes a while. */
  say(...lines: string[]): void {
    this.lines.push(...lines);
    for (const line of lines) console.log(line);
  }

  /** Records a value against its goal; returns the text of a table's cell. */
  bar(what: string, value: number, unit: string, goal: number | undefined): string {
    if (goal === undefined) return number(value);
    const met = value <= goal;
    this.bars.push({ what, value, unit, goal, met });
    return `${number(value)} ${met ? "✓" : "✗"} ≤ ${number(goal)}`;
  }

  table(head: string[], rows: string[][]): void {
    const line = (cells: string[]): string => `| ${cells.join(" | ")} |`;
    this.say(line(head), line(head.map((_, at) => (at === 0 ? "---" : "---:"))), ...rows.map(line), "");
  }

  /** Returns every goal of this run, missed ones first. */
  summary(): void {
    const sorted = this.bars.toSorted((a, b) => Number(a.met) - Number(b.met));
    const missed = sorted.filter(({ met }) => !met).length;
    this.say(`## ${this.bars.length} goals, ${missed} missed`, "");
    this.table(
      ["what", "seen", "goal", ""],
      sorted.map(({ what, value, unit, goal, met }) => [
        what,
        `${number(value)} ${unit}`,
        `≤ ${number(goal)} ${unit}`,
        met ? "✓" : "✗",
      ]),
    );
  }
}
