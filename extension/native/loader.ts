/**
 * Finds the addon and loads it.
 *
 * Written by hand because the generated loader of napi-rs fails inside the Bun-compiled Pi and under pnpm: a bare
 * `require("package")` does not resolve there, a path does (docs/pi-contract.md#finding-the-addon). Nothing here throws; the
 * caller gets an addon of exactly our version, or a text that says what is wrong and how to repair it.
 */
import { closeSync, existsSync, openSync, readFileSync, readSync, realpathSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { isMainThread } from "node:worker_threads";
import type { Addon, Loaded } from "./addon.ts";
import { privateCopy } from "./private-copy.ts";

const NAME = "pi-provider-kimi-code";
const FILE = "kimi-code.node";

/** Platforms with a package of their own; npm/platforms.mjs describes them. */
export const PREBUILT: readonly string[] = [
  "linux-x64-gnu",
  "linux-x64-musl",
  "linux-arm64-gnu",
  "linux-arm64-musl",
  "darwin-x64",
  "darwin-arm64",
  "win32-x64",
  "win32-arm64",
  "android-arm64",
];

/** Name of this machine's platform as our packages spell it, e.g. `linux-x64-gnu`. */
export function platformName(): string {
  const { platform, arch } = process;
  if (platform === "linux") return `linux-${arch}-${isMusl() ? "musl" : "gnu"}`;
  return `${platform}-${arch}`;
}

/** Which C library this program uses. The loader that it names says so within its first bytes. */
function isMusl(): boolean {
  try {
    const head = programHead();
    if (head.includes("/ld-musl-")) return true;
    if (head.includes("/ld-linux")) return false;
    return isMuslByReport();
  } catch {
    return existsSync(`/lib/ld-musl-${process.arch === "arm64" ? "aarch64" : "x86_64"}.so.1`);
  }
}

function programHead(): string {
  const file = openSync(process.execPath, "r");
  try {
    const head = Buffer.alloc(4096);
    return head.toString("latin1", 0, readSync(file, head));
  } finally {
    closeSync(file);
  }
}

/** Certain, but some milliseconds of every start. */
function isMuslByReport(): boolean {
  const report: typeof process.report & { excludeNetwork?: boolean } = process.report;
  // The network part of the report may take seconds where name resolution hangs.
  report.excludeNetwork = true;
  const { header } = report.getReport() as { header: { glibcVersionRuntime?: string } };
  return header.glibcVersionRuntime === undefined;
}

/** Loads the addon. */
export function loadAddon(): Loaded {
  const platform = platformName();
  const tried: string[] = [];
  let root = "";
  try {
    root = packageRoot(realpathSync(fileURLToPath(import.meta.url)));
    const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
    const require = createRequire(join(root, "index.ts"));
    for (const candidate of candidates(root, platform)) {
      const found = attempt(require, candidate, version);
      if (typeof found !== "string") return { addon: shutDownOnExit(found) };
      tried.push(`${candidate}: ${found}`);
    }
  } catch (error) {
    tried.push(firstLine(error));
  }
  return { problem: problemText(platform, tried, root) };
}

/** The directory of our package.json. */
function packageRoot(file: string): string {
  let directory = dirname(file);
  while (!existsSync(join(directory, "package.json"))) {
    const parent = dirname(directory);
    if (parent === directory) break;
    directory = parent;
  }
  return directory;
}

/** Where the addon may be, best first. `root` must be free of symlinks: pnpm and `pi -e ./link` reach us through one. */
function candidates(root: string, platform: string): string[] {
  const name = `${NAME}-${platform}`;
  const files = [join(root, "npm", platform, FILE)];
  for (let directory = root; ; directory = dirname(directory)) {
    files.push(join(directory, "node_modules", name, FILE));
    if (directory === dirname(directory)) break;
  }
  const override = process.env["KIMI_CODE_NATIVE"];
  // The last one is for installations without node_modules (Yarn's Plug'n'Play) and for NODE_PATH.
  return [...(override ? [override] : []), ...files.filter((file) => existsSync(file)), `${name}/${FILE}`];
}

/** The addon at `path`, or why not. */
function attempt(require: NodeJS.Require, path: string, version: string): Addon | string {
  try {
    // Windows locks a loaded file: an update could not replace it while any Pi runs.
    const copyFirst = process.platform === "win32" && existsSync(path);
    let addon = require((copyFirst ? privateCopy(path, version) : undefined) ?? path) as Addon;
    if (addon.version() !== version) {
      // An update replaced the file while this process runs: the process keeps what it loaded from that path.
      const copy = privateCopy(path, version);
      if (copy !== undefined) addon = require(copy) as Addon;
    }
    return addon.version() === version ? addon : `is version ${addon.version()}, but ${version} is needed`;
  } catch (error) {
    return firstLine(error);
  }
}

/** Every addon of this process; one per file, also across Pi's `/reload`. */
const LOADED = Symbol.for("pi-provider-kimi-code.addons");

/**
 * Lets the addon put things in order when the process exits: destructors do not run then, a refresh token may be on its way, and
 * a lock must not outlive us. One listener for the process, however often the extension is loaded again. The end of a worker thread
 * is not the end of the process: the addon goes on.
 */
function shutDownOnExit(addon: Addon): Addon {
  const shared = process as typeof process & { [LOADED]?: Set<Addon> };
  if (!isMainThread) return addon;
  if (shared[LOADED] === undefined) {
    const addons = (shared[LOADED] = new Set<Addon>());
    process.once("exit", () => addons.forEach((one) => one.settle()));
  }
  shared[LOADED].add(addon);
  return addon;
}

function problemText(platform: string, tried: string[], root: string): string {
  return (
    `Kimi Code: the native part for ${platform} (package ${NAME}-${platform}) could not be loaded. ${repair(platform, root)}` +
    `\nTried: ${tried.join("; ")}`
  );
}

function repair(platform: string, root: string): string {
  // What a Git install is, too. Published packages hold no Rust.
  if (existsSync(join(root, "Cargo.toml"))) {
    const published = PREBUILT.includes(platform)
      ? `, or install the published package instead: \`pi install npm:${NAME}\``
      : "";
    return `This is a checkout, which has to be built. Repair: run \`npm run build\` in ${root} (needs Rust)${published}.`;
  }
  if (!PREBUILT.includes(platform)) {
    return `There is no prebuilt package for this platform. Repair: build it with Rust in a checkout (\`npm run build\`).`;
  }
  return (
    `Repair: in Pi run \`pi remove npm:${NAME}\` and \`pi install npm:${NAME}\`, elsewhere reinstall ${NAME}, both without ` +
    "--omit=optional. After an update restart the program."
  );
}

function firstLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split("\n")[0] ?? "";
}
