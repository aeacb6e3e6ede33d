/** Writes the fault matrix into its document, and clears the environment for its run. */
import { join } from "node:path";
import { ROOT } from "../support/pi.ts";

export const RELIABILITY = join(ROOT, "docs", "reliability.md");

const MARKS = {
  client: ["<!-- fault matrix: npm run reliability -->", "<!-- end of the fault matrix -->"],
  pi: ["<!-- inside Pi: npm run reliability -->", "<!-- end of what is inside Pi -->"],
} as const;

/** Returns `document` with one of its tables replaced. */
export function inDocument(document: string, place: keyof typeof MARKS, table: string): string {
  const [start, end] = MARKS[place].map((mark) => document.indexOf(mark)) as [number, number];
  if (start < 0 || end < start) throw new Error("docs/reliability.md has lost the marks around a table");
  return `${document.slice(0, start + MARKS[place][0].length)}\n\n${table}\n\n${document.slice(end)}`;
}

/** Returns the rows that only one of the document and this run has. */
export function differences(document: string, place: keyof typeof MARKS, table: string): string[] {
  const [written, run] = [document, inDocument(document, place, table)].map((text) => text.split("\n")) as [
    string[],
    string[],
  ];
  return [
    ...written.filter((line) => !run.includes(line)).map((line) => `written: ${line}`),
    ...run.filter((line) => !written.includes(line)).map((line) => `seen: ${line}`),
  ];
}

/** Proxies and settings of this machine's user would get in the way of the faults. */
export function withoutProxies(): void {
  for (const name of Object.keys(process.env)) {
    if (/^KIMI_(?!TEST_)|_proxy$/i.test(name)) delete process.env[name];
  }
}
