/** Installs what tests need from npm, again after a pause where the registry has a bad moment. */
import { execFileSync } from "node:child_process";
import { cpSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";

/** Folders with a manifest and a lock file, so that a run does not depend on what was published that day. */
const INSTALLATIONS = join(import.meta.dirname, "installations");

/** How often npm is tried, and the time between two tries in milliseconds. */
const ATTEMPTS = 4;
const BETWEEN_ATTEMPTS_MS = 15_000;

const QUIET = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"];

/** Runs npm in a folder and throws what it said when no attempt succeeds. `prepare` runs before each attempt. */
export function npm(args: readonly string[], cwd: string, prepare = (): void => {}): void {
  for (let attempt = 1; ; attempt++) {
    prepare();
    try {
      const shell = process.platform === "win32";
      execFileSync("npm", [...args, ...QUIET], {
        cwd,
        stdio: ["ignore", "ignore", "inherit"],
        timeout: 300_000,
        shell,
      });
      return;
    } catch (error) {
      if (attempt === ATTEMPTS) throw error;
      sleep(BETWEEN_ATTEMPTS_MS);
    }
  }
}

/** Installs a folder of `installations/` beside `directory` and renames it, so that an interrupted installation leaves nothing usable. */
export function installLocked(name: string, directory: string): void {
  const fresh = `${directory}.new`;
  npm(["ci"], fresh, () => {
    for (const old of [fresh, directory]) rmSync(old, { recursive: true, force: true });
    cpSync(join(INSTALLATIONS, name), fresh, { recursive: true });
  });
  renameSync(fresh, directory);
}

/** Blocks this thread. */
export function sleep(milliseconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
}
