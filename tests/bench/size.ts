/** The size of the addon. `npm run size` shows what it consists of. */
import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { platformName } from "../../extension/native/platform.ts";
import { LIMIT } from "../../npm/size.mjs";
import { ROOT } from "../support/pi.ts";
import type { Bench } from "./bench.ts";

/** Symbols and debug information alone make a debug build larger than this, in bytes. */
const DEBUG = 20e6;

export function size({ report }: Bench): Promise<void> {
  const addon = join(ROOT, "npm", platformName(), "kimi-code.node");
  const bytes = existsSync(addon) ? statSync(addon).size : Number.NaN;
  const kind = bytes > DEBUG ? " (a debug build!)" : ", stripped";
  report.say(`- Addon${kind}: ${report.bar("size of the addon", bytes / 1e6, "MB", LIMIT / 1e6)} MB.`);
  return Promise.resolve();
}
