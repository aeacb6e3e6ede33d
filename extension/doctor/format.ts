/**
 * Writes a report of the doctor as text, and as a file for bug reports.
 */
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { homedir, hostname, userInfo } from "node:os";
import { dirname, join } from "node:path";
import type { DoctorReport } from "./examine.ts";

/** Returns the report as lines: status, name, what was found, and below it the cure. */
export function reportText({ checks }: DoctorReport): string {
  const width = Math.max(...checks.map(({ id }) => id.length));
  const lines = checks.flatMap(({ id, status, message, cure }) => [
    `${status.padEnd(7)}  ${id.padEnd(width)}  ${message}`,
    ...(cure === undefined ? [] : [`${" ".repeat(width + 11)}→ ${cure}`]),
  ]);
  const count = (wanted: string): number => checks.filter(({ status }) => status === wanted).length;
  const found = [
    [count("fault"), "fault"],
    [count("warning"), "warning"],
  ].flatMap(([number, word]) => (number === 0 ? [] : [`${number} ${word}${number === 1 ? "" : "s"}`]));
  return [...lines, "", found.length === 0 ? "Everything is well." : `${found.join(", ")}.`].join("\n");
}

/** Returns 0 if all is well, 1 for warnings, 2 for faults. */
export function exitCode({ checks }: DoctorReport): 0 | 1 | 2 {
  if (checks.some(({ status }) => status === "fault")) return 2;
  return checks.some(({ status }) => status === "warning") ? 1 : 0;
}

/**
 * Returns the report for others to read: without the names of home directory, user and machine. The addon has removed credentials
 * already.
 */
export function publicReport(report: DoctorReport, now = new Date()): string {
  let text = `pi-provider-kimi-code doctor, ${now.toISOString()}\n\n${reportText(report)}\n`;
  const home = tolerant(homedir);
  if (home.length > 1) text = text.replaceAll(home, "~");
  for (const [name, replacement] of [
    [tolerant(hostname), "<machine>"],
    [tolerant(() => userInfo().username), "<user>"],
  ] as const) {
    if (name === "" || name === "localhost") continue;
    // A whole word only: a user may be called "pi" or "node".
    const escaped = name.replace(/[^\w]/g, "\\$&");
    text = text.replace(new RegExp(`(?<![\\w.-])${escaped}(?![\\w.-])`, "g"), replacement);
  }
  return text;
}

/** Returns the usual path of a report. */
export function reportFile(now = new Date()): string {
  const stamp = now.toISOString().slice(0, 19).replaceAll(":", "-");
  return join(homedir(), ".pi", "pi-provider-kimi-code", `doctor-${stamp}.txt`);
}

/** Writes a report that the user has seen, readable by the user alone. Throws if that is impossible. */
export function writeReport(file: string, text: string): void {
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  writeFileSync(file, text, { mode: 0o600 });
  chmodSync(file, 0o600);
}

function tolerant(read: () => string): string {
  try {
    return read();
  } catch {
    return "";
  }
}
