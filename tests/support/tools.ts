/** Programs that only some tests need, fetched by npm the first time and kept in .cache/. */
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { npm } from "./npm.ts";
import { ROOT } from "./pi.ts";

/**
 * Installs the package `spec` and returns `path` inside its node_modules. Each has a folder of its own, as npm removes what it
 * did not save.
 */
export function fetchedTool(spec: string, path: string): string {
  const folder = join(ROOT, ".cache", "tools", spec.replaceAll("/", "+"));
  const tool = join(folder, "node_modules", path);
  if (existsSync(tool)) return tool;
  mkdirSync(folder, { recursive: true });
  if (!existsSync(join(folder, "package.json"))) writeFileSync(join(folder, "package.json"), '{"private":true}');
  npm(["install", "--no-save", spec], folder);
  return tool;
}
