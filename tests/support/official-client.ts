/** The official client, which some tests run beside us. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { installLocked } from "./npm.ts";
import { ROOT } from "./pi.ts";

const VERSION = "2.1.0";
const DIRECTORY = join(ROOT, ".cache", `kimi-code-${VERSION}`);

/** Path of its program. */
export const OFFICIAL_CLIENT = join(DIRECTORY, "node_modules", "@moonshot-ai", "kimi-code", "dist", "main.mjs");

/** Installs it the first time. */
export function installOfficialClient(): void {
  if (!existsSync(OFFICIAL_CLIENT)) installLocked(`kimi-code-${VERSION}`, DIRECTORY);
}
