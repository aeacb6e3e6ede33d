/**
 * Finds the addon and loads it.
 *
 * The generated loader of napi-rs fails in the Bun-compiled Pi and under pnpm: a bare `require("package")` does not resolve
 * there, a path does (docs/pi-contract.md#finding-the-addon). Nothing here throws; the result is an addon of exactly our
 * version, or a text that names the problem and the repair.
 */
import { closeSync, existsSync, openSync, readFileSync, readSync, realpathSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { isMainThread } from "node:worker_threads";
import type { Addon, Loaded } from "./addon.ts";
import { privateCopy } from "./private-copy.ts";

const FILE = "kimi-code.node";

/** Platforms with a prebuilt package; npm/platforms.mjs describes them. */
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

/** Returns the name of this machine's platform as in our package names, for example `linux-x64-gnu`. */
export function platformName(): string {
  const { platform, arch } = process;
  if (platform === "linux") return `linux-${arch}-${isMusl() ? "musl" : "gnu"}`;
  return `${platform}-${arch}`;
}

/** Returns whether this program uses musl. The start of the executable names its loader. */
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

/** Asks Node, which takes some milliseconds. */
function isMuslByReport(): boolean {
  const report: typeof process.report & { excludeNetwork?: boolean } = process.report;
  // The network part of the report takes seconds if name resolution hangs.
  report.excludeNetwork = true;
  const { header } = report.getReport() as { header: { glibcVersionRuntime?: string } };
  return header.glibcVersionRuntime === undefined;
}

/** Loads the addon of exactly our version. */
export function loadAddon(): Loaded {
  const platform = platformName();
  const tried: string[] = [];
  let root = "";
  let manifest: Manifest | undefined;
  try {
    root = packageRoot(realpathSync(fileURLToPath(import.meta.url)));
    manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as Manifest;
    const require = createRequire(join(root, "index.ts"));
    for (const candidate of candidates(root, platform, packageName(manifest, platform))) {
      const found = attempt(require, candidate, manifest.version);
      if (typeof found !== "string") return { addon: shutDownOnExit(found) };
      tried.push(`${candidate}: ${found}`);
    }
  } catch (error) {
    tried.push(firstLine(error));
  }
  return { problem: problemText(platform, tried, root, manifest) };
}

/** The members of our package.json that are read here. */
interface Manifest {
  name: string;
  version: string;
  optionalDependencies?: Record<string, string>;
}

/** Returns the package of a platform. Published packages list theirs; a checkout and the all-in-one archive have none. */
function packageName({ optionalDependencies = {} }: Manifest, platform: string): string | undefined {
  return Object.keys(optionalDependencies).find((name) => name.endsWith(platform));
}

/** Returns the directory of our package.json. */
function packageRoot(file: string): string {
  let directory = dirname(file);
  while (!existsSync(join(directory, "package.json"))) {
    const parent = dirname(directory);
    if (parent === directory) break;
    directory = parent;
  }
  return directory;
}

/** Lists the possible paths of the addon, best first. `root` must be resolved: pnpm and `pi -e ./link` use symlinks. */
function candidates(root: string, platform: string, name: string | undefined): string[] {
  const files = [join(root, "npm", platform, FILE)];
  const names = name === undefined ? [] : [name];
  for (let directory = root; ; directory = dirname(directory)) {
    files.push(...names.map((one) => join(directory, "node_modules", one, FILE)));
    if (directory === dirname(directory)) break;
  }
  const override = process.env["KIMI_CODE_NATIVE"];
  return [
    ...(override ? [override] : []),
    ...files.filter((file) => existsSync(file)),
    // For Yarn's Plug'n'Play, which has no node_modules, and for NODE_PATH.
    ...names.map((one) => `${one}/${FILE}`),
  ];
}

/** Loads the addon at `path`, or returns the reason why that failed. */
function attempt(require: NodeJS.Require, path: string, version: string): Addon | string {
  try {
    // Windows locks a loaded file, so an update could not replace it while a Pi runs.
    const copyFirst = process.platform === "win32" && existsSync(path);
    let addon = require((copyFirst ? privateCopy(path, version) : undefined) ?? path) as Addon;
    if (addon.version() !== version) {
      // An update has replaced the file, but the process keeps what it loaded from that path.
      const copy = privateCopy(path, version);
      if (copy !== undefined) addon = require(copy) as Addon;
    }
    return addon.version() === version ? addon : `is version ${addon.version()}, but ${version} is needed`;
  } catch (error) {
    return firstLine(error);
  }
}

/** The loaded addons of this process, also across Pi's `/reload`. */
const LOADED = Symbol.for("pi-provider-kimi-code.addons");

/**
 * Shuts the addon down when the process exits, because a token refresh may be in progress and destructors do not run then.
 * Adds one listener per process, however often the extension is loaded. The end of a worker thread is not the end of the process.
 */
function shutDownOnExit(addon: Addon): Addon {
  const shared = process as typeof process & { [LOADED]?: Set<Addon> };
  if (!isMainThread) return addon;
  if (shared[LOADED] === undefined) {
    const addons = (shared[LOADED] = new Set<Addon>());
    process.once("exit", () => addons.forEach((one) => one.shutdown()));
  }
  shared[LOADED].add(addon);
  return addon;
}

function problemText(platform: string, tried: string[], root: string, manifest: Manifest | undefined): string {
  const name = manifest && packageName(manifest, platform);
  return (
    `Kimi Code: the native part for ${platform}${name ? ` (package ${name})` : ""} could not be loaded. ` +
    `${repair(platform, root, manifest?.name ?? "pi-provider-kimi-code")}\nTried: ${tried.join("; ") || `npm/${platform}/${FILE}: no such file`}`
  );
}

function repair(platform: string, root: string, name: string): string {
  // Published packages contain no Rust; a checkout and an installation from Git do.
  if (existsSync(join(root, "Cargo.toml"))) {
    const published = PREBUILT.includes(platform)
      ? `, or install the published package instead: \`pi install npm:${name}\``
      : "";
    return `This is a checkout, which has to be built. Repair: run \`npm run build\` in ${root} (needs Rust)${published}.`;
  }
  if (!PREBUILT.includes(platform)) {
    return `There is no prebuilt package for this platform. Repair: build it with Rust in a checkout (\`npm run build\`).`;
  }
  return (
    `Repair: in Pi run \`pi remove npm:${name}\` and \`pi install npm:${name}\`, elsewhere reinstall ${name}, both without ` +
    "--omit=optional. After an update restart the program."
  );
}

function firstLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split("\n")[0] ?? "";
}
