/** Where the fault matrix is written down, and what has to be out of its way while it runs. */
import { join } from "node:path";
import { ROOT } from "../support/pi.ts";

export const RELIABILITY = join(ROOT, "docs", "reliability.md");

const MARKS = ["<!-- fault matrix: npm run reliability -->", "<!-- end of the fault matrix -->"] as const;

/** `document` with the matrix replaced. */
export function inDocument(document: string, matrix: string): string {
  const [start, end] = MARKS.map((mark) => document.indexOf(mark)) as [number, number];
  if (start < 0 || end < start) throw new Error("docs/reliability.md has lost the marks around its matrix");
  return `${document.slice(0, start + MARKS[0].length)}\n\n${matrix}\n\n${document.slice(end)}`;
}

/** A proxy or a setting of the person at this machine would come between us and the faults. */
export function withoutProxies(): void {
  for (const name of Object.keys(process.env)) {
    if (/^KIMI_(?!TEST_)|_proxy$/i.test(name)) delete process.env[name];
  }
}
