/**
 * Installs the versions of Pi that the tests run in, each once per checkout, below `.cache/pi/`.
 *
 * `KIMI_TEST_PI` selects the version of a run. npm/test.mjs sets it, as tests/pi/matrix.ts says.
 */
import { mkdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { installLocked, sleep } from "./npm.ts";

const ROOT = join(import.meta.dirname, "..", "..");
const CACHE = join(ROOT, ".cache", "pi");
const PACKAGE = "@earendil-works/pi-coding-agent";

/** Version in package.json, which `npm ci` installs: the oldest one that is supported in full. */
export const OLDEST = "0.87.1";

/** Newest version. */
export const NEWEST = "1.6.0";

/** Versions that the tests run in, oldest first. */
export const PI_VERSIONS = [OLDEST, "1.3.0", "1.5.2", NEWEST] as const;

/** Version of this run. */
export const PI_VERSION = process.env["KIMI_TEST_PI"] ?? OLDEST;

/** Time after which a lock of another process counts as abandoned, in milliseconds. An installation takes about 15 s. */
const LOCK_STALE_MS = 300_000;

/** Returns the directory of an installed Pi, which holds `node_modules`. Installs it first if necessary. */
export function piInstallation(version = PI_VERSION): string {
  if (version === installedVersion(ROOT)) return ROOT;
  const directory = join(CACHE, version);
  if (installedVersion(directory) === version) return directory;
  mkdirSync(CACHE, { recursive: true });
  withLock(`${directory}.lock`, () => {
    if (installedVersion(directory) !== version) installLocked(`pi-${version}`, directory);
  });
  return directory;
}

/** Returns the path of Pi's command line program: the bundle, which is what users run. */
export function piCli(version = PI_VERSION): string {
  return join(piInstallation(version), "node_modules", PACKAGE, "dist", "bundle", "cli.js");
}

/** Returns the major and minor version of this run as one number, for example 1.5.2 as 1005. */
export function piLevel(version = PI_VERSION): number {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  return major * 1000 + minor;
}

function installedVersion(directory: string): string | undefined {
  try {
    const manifest = readFileSync(join(directory, "node_modules", PACKAGE, "package.json"), "utf8");
    return (JSON.parse(manifest) as { version: string }).version;
  } catch {
    return undefined;
  }
}

/** Runs `work` while holding a lock, because test files run side by side. */
function withLock(lock: string, work: () => void): void {
  while (!taken(lock)) sleep(200);
  try {
    work();
  } finally {
    rmSync(lock, { recursive: true, force: true });
  }
}

function taken(lock: string): boolean {
  try {
    mkdirSync(lock);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    const since = statSync(lock, { throwIfNoEntry: false })?.mtimeMs ?? Date.now();
    if (Date.now() - since > LOCK_STALE_MS) rmSync(lock, { recursive: true, force: true });
    return false;
  }
}
