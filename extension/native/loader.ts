/**
 * Finds the addon and loads it.
 *
 * The generated loader of napi-rs fails in the Bun-compiled Pi and under pnpm: a bare `require("package")` does not resolve
 * there, a path does (docs/pi-contract.md#finding-the-addon). Nothing here throws; the result is an addon of exactly our
 * version, or a text that names the problem and the repair.
 */
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { createRequire, fs } from "../node-fs.ts";
import type { Addon, Loaded } from "./addon.ts";
import { type PackageInfo, packageInfo, packageRoot, readManifest } from "./package-info.ts";
import { platformName, PREBUILT } from "./platform.ts";
import { privateCopy } from "./private-copy.ts";
import { withTurnHub } from "./turn-hub.ts";

const FILE = "kimi-code.node";

/** Loads the addon of exactly our version: from the file `native`, if given, else from where packages and bundles keep it. */
export function loadAddon(native?: string): Loaded {
  const platform = platformName();
  const tried: string[] = [];
  let origins: string[] = [];
  let info: PackageInfo | undefined;
  try {
    origins = originFiles();
    info = packageInfo(packageRoot(origins[0] ?? ""), platform);
    const require = createRequire(origins[0] ?? join(process.cwd(), "index.js"));
    for (const candidate of native === undefined ? candidates(origins, platform, info) : [resolve(native)]) {
      const found = attempt(require, candidate, info.version);
      if (typeof found !== "string") return { addon: withTurnHub(shutDownOnExit(found)) };
      tried.push(`${candidate}: ${found}`);
    }
  } catch (error) {
    tried.push(firstLine(error));
  }
  const cure = repair(platform, origins[0], info?.name ?? "pi-provider-kimi-code");
  return { problem: problemText(platform, tried, cure, info), repair: cure };
}

declare const __filename: string | undefined;

/** Lists the files to search from: our own, and the program, because a bundler may have moved our code into it. */
function originFiles(): string[] {
  // A bundle in CommonJS has no `import.meta`. Elsewhere bundlers may put the path of the build into `__filename`.
  const url: string | undefined = import.meta.url;
  const bundle = typeof __filename === "string" ? __filename : undefined;
  const own = url === undefined ? bundle : fileURLToPath(url);
  const files = [own, process.argv[1], process.execPath].map((file) => {
    try {
      return file === undefined ? undefined : fs.realpathSync(file);
    } catch {
      return undefined; // a path inside of a compiled program
    }
  });
  return [...new Set(files.filter((file) => file !== undefined))];
}

/** Returns the directory of the nearest package.json if it is that of `name`. */
function ownPackage(file: string, name: string): string | undefined {
  const root = packageRoot(file);
  return root !== undefined && readManifest(root).name === name ? root : undefined;
}

/** Lists the possible paths of the addon, best first. The origins are resolved: pnpm and `pi -e ./link` use symlinks. */
function candidates(origins: string[], platform: string, { name, platformPrefix }: PackageInfo): string[] {
  const packages = platformPrefix === undefined ? [] : [`${platformPrefix}${platform}`];
  const files: string[] = [];
  for (const origin of origins) {
    const root = ownPackage(origin, name);
    files.push(root === undefined ? join(dirname(origin), FILE) : join(root, "npm", platform, FILE));
    for (let directory = root ?? dirname(origin); ; directory = dirname(directory)) {
      const modules = [join(directory, "node_modules")];
      // A bundle finds the platform's package beside ours, which pnpm links to.
      if (root === undefined) modules.push(dirname(resolved(join(directory, "node_modules", name))));
      files.push(...modules.flatMap((folder) => packages.map((one) => join(folder, one, FILE))));
      if (directory === dirname(directory)) break;
    }
  }
  const override = process.env["KIMI_CODE_NATIVE"];
  return [
    ...(override ? [resolve(override)] : []),
    ...[...new Set(files)].map(outsideOfArchive).filter((file) => fs.existsSync(file)),
    // For Yarn's Plug'n'Play, which has no node_modules, and for NODE_PATH.
    ...packages.map((one) => `${one}/${FILE}`),
  ];
}

/** Electron keeps binaries beside its archive. */
function outsideOfArchive(file: string): string {
  const unpacked = file.replace(/\bapp\.asar(?=[\\/])/, "app.asar.unpacked");
  return fs.existsSync(unpacked) ? unpacked : file;
}

function resolved(path: string): string {
  try {
    return fs.realpathSync(path);
  } catch {
    return path;
  }
}

/** Loads the addon at `path`, or returns the reason why that failed. */
function attempt(require: NodeJS.Require, path: string, version: string): Addon | string {
  try {
    // Windows locks a loaded file, so an update could not replace it while a Pi runs.
    const copyFirst = process.platform === "win32" && fs.existsSync(path);
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
  if (shared[LOADED] === undefined) {
    const addons = (shared[LOADED] = new Set<Addon>());
    process.once("exit", () => {
      if (isMainThread()) addons.forEach((one) => one.shutdown());
    });
  }
  shared[LOADED].add(addon);
  return addon;
}

/** Loaded at the end and not at the start, because it takes two milliseconds. */
function isMainThread(): boolean {
  const require = createRequire(process.execPath);
  return (require("node:worker_threads") as { isMainThread: boolean }).isMainThread;
}

function problemText(platform: string, tried: string[], cure: string, info: PackageInfo | undefined): string {
  const name = info?.platformPrefix === undefined ? "" : ` (package ${info.platformPrefix}${platform})`;
  return (
    `Kimi Code: the native part for ${platform}${name} could not be loaded. ` +
    `${cure}\nTried: ${tried.join("; ") || `npm/${platform}/${FILE}: no such file`}`
  );
}

function repair(platform: string, origin: string | undefined, name: string): string {
  const root = origin === undefined ? undefined : ownPackage(origin, name);
  // Published packages contain no Rust; a checkout and an installation from Git do.
  if (root !== undefined && fs.existsSync(join(root, "Cargo.toml"))) {
    const published = PREBUILT.includes(platform)
      ? `, or install the published package instead: \`pi install npm:${name}\``
      : "";
    return `This is a checkout, which has to be built. Repair: run \`npm run build\` in ${root} (needs Rust)${published}.`;
  }
  if (!PREBUILT.includes(platform)) {
    return `There is no prebuilt package for this platform. Repair: build it with Rust in a checkout (\`npm run build\`).`;
  }
  if (root === undefined) {
    return (
      `This program is bundled. Repair: install ${name} where it runs and keep it external, put ${FILE} beside the program, or pass ` +
      "its path as the option `native` or in KIMI_CODE_NATIVE."
    );
  }
  return (
    `Repair: in Pi run \`pi remove npm:${name}\` and \`pi install npm:${name}\`, elsewhere reinstall ${name}, both without ` +
    "--omit=optional. After an update restart the program."
  );
}

function firstLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split("\n")[0] ?? "";
}
