/** Files of this folder that are preloaded into other programs, and what they note. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "./pi.ts";

/** Returns the `NODE_OPTIONS` that preload these files, in this order. */
export function preloading(...names: string[]): string {
  return names.map((name) => `--require ${join(ROOT, "tests", "support", name)}`).join(" ");
}

/** Reads what a preloaded file has noted: one JSON value a line. */
export function notes<T>(file: string): T[] {
  if (!existsSync(file)) return [];
  const lines = readFileSync(file, "utf8").split("\n");
  return lines.filter((line) => line !== "").map((line) => JSON.parse(line) as T);
}
