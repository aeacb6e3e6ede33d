/**
 * Installs the versions of Pi that the tests run in, each once per checkout, below `.cache/pi/`.
 *
 * `KIMI_TEST_PI` selects the version of a run. npm/test.mjs sets it, as tests/pi/matrix.ts says.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const ROOT = join(import.meta.dirname, "..", "..");
const CACHE = join(ROOT, ".cache", "pi");
const PACKAGE = "@earendil-works/pi-coding-agent";

/** Version in package.json, which `npm ci` installs: the oldest one that is supported in full. */
export const OLDEST = "0.87.1";

/** Newest version whose packages are all published. */
export const NEWEST_COMPLETE = "1.5.2";

/** Versions that the tests run in, oldest first. */
export const PI_VERSIONS = [OLDEST, "1.3.0", NEWEST_COMPLETE, "1.6.0"] as const;

/** Version of this run. */
export const PI_VERSION = process.env["KIMI_TEST_PI"] ?? OLDEST;

/** Packages of Pi that are missing on npm in their own version, and the version that replaces them. Pi's bundle contains them. */
const REPLACED: Record<string, Record<string, string>> = {
  "1.6.0": Object.fromEntries(
    ["pi-agent-core", "pi-ai", "pi-codemode", "pi-mcp", "pi-tui"].map((name) => [
      `@earendil-works/${name}`,
      NEWEST_COMPLETE,
    ]),
  ),
};

/** Time after which a lock of another process counts as abandoned, in milliseconds. An installation takes about 15 s. */
const LOCK_STALE_MS = 300_000;

/** Returns the directory of an installed Pi, which holds `node_modules`. Installs it first if necessary. */
export function piInstallation(version = PI_VERSION): string {
  if (version === installedVersion(ROOT)) return ROOT;
  const directory = join(CACHE, version);
  if (installedVersion(directory) === version) return directory;
  mkdirSync(CACHE, { recursive: true });
  withLock(`${directory}.lock`, () => {
    if (installedVersion(directory) !== version) install(version, directory);
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

/** Installs into a temporary directory and renames it, so that an interrupted installation leaves nothing usable. */
function install(version: string, directory: string): void {
  const fresh = `${directory}.new`;
  for (const old of [fresh, directory]) rmSync(old, { recursive: true, force: true });
  mkdirSync(fresh, { recursive: true });
  const manifest = { private: true, dependencies: { [PACKAGE]: version }, overrides: REPLACED[version] ?? {} };
  writeFileSync(join(fresh, "package.json"), JSON.stringify(manifest));
  const options = ["--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock", "--loglevel=error"];
  execFileSync("npm", ["install", ...options], {
    cwd: fresh,
    stdio: ["ignore", "ignore", "inherit"],
    shell: process.platform === "win32",
  });
  renameSync(fresh, directory);
}

/** Runs `work` while holding a lock, because test files run side by side. */
function withLock(lock: string, work: () => void): void {
  while (!taken(lock)) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200);
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
