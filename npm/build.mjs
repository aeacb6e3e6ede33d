// Builds the addon into npm/<platform>/ and, for a release build, the JavaScript that plain Node programs import.
//
// `node npm/build.mjs --release | --debug [--platform linux-x64-musl] [--zig]`. Another platform than this one needs what
// docs/building.md describes; `--zig` links with zig, which gives Linux addons their low glibc floor.
//
// `cargo rustc --crate-type cdylib` and not a "cdylib" in Cargo.toml: the crate is a library for its own tests, and rustc
// leaves link-time optimisation out where both kinds are built at once.
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, renameSync, rmSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { platformName } from "../extension/native/loader.ts";
import { PLATFORMS } from "./platforms.mjs";

const ROOT = join(import.meta.dirname, "..");
const TSC = join(ROOT, "node_modules", "typescript", "bin", "tsc");
const LIBRARIES = { darwin: "libkimi_code.dylib", win32: "kimi_code.dll" };

/** Oldest glibc that a Linux addon supports: CentOS 7 and later. */
const GLIBC_FLOOR = "2.17";

function run(command, args, rustFlags) {
  const env = rustFlags ? { ...process.env, RUSTFLAGS: rustFlags } : process.env;
  const { status, error } = spawnSync(command, args, { cwd: ROOT, stdio: "inherit", env });
  if (error?.code === "ENOENT" && command === "cargo") {
    console.error("Building the addon needs Rust: install the stable toolchain from https://rustup.rs and try again.");
    process.exit(1);
  }
  if (error) console.error(`${command}: ${error.message}`);
  if (status !== 0) process.exit(status ?? 1);
}

/** Builds the addon and puts it where the loader looks first. */
export function buildAddon(release, { platform = platformName(), zig = false } = {}) {
  const { os = [process.platform], libc = [], target } = PLATFORMS[platform] ?? {};
  const foreign = zig || platform !== platformName();
  const floor = zig && libc.includes("glibc") ? `.${GLIBC_FLOOR}` : "";
  const options = [...(release ? ["--release"] : []), ...(foreign ? ["--target", `${target}${floor}`] : [])];
  const [command, verb] = zig ? ["cargo-zigbuild", "rustc"] : ["cargo", "rustc"];
  run(command, [verb, "--locked", "--lib", "--crate-type", "cdylib", ...options], rustFlags(platform));

  const output = process.env.CARGO_TARGET_DIR ?? join(ROOT, "target");
  const library = LIBRARIES[os[0]] ?? "libkimi_code.so";
  const directory = join(ROOT, "npm", platform);
  const addon = join(directory, "kimi-code.node");
  mkdirSync(directory, { recursive: true });
  // Renamed into place: a running Pi keeps the file it has mapped.
  copyFileSync(join(output, foreign ? target : "", release ? "release" : "debug", library), `${addon}.new`);
  renameSync(`${addon}.new`, addon);
  console.log(`${addon} (${(statSync(addon).size / 1e6).toFixed(2)} MB)`);
}

/** Flags for the C library: musl must be linked dynamically to be loaded by Node, Microsoft's runtime may be missing. */
function rustFlags(platform) {
  if (platform.endsWith("-musl")) return "-C target-feature=-crt-static";
  if (platform.startsWith("win32-")) return "-C target-feature=+crt-static";
  return undefined;
}

/**
 * Compiles index.ts and extension/ into `directory`: types, and all JavaScript in one file, because Node needs a millisecond per
 * file.
 */
export function buildJavaScript(directory = join(ROOT, "dist")) {
  rmSync(directory, { recursive: true, force: true });
  run(process.execPath, [TSC, "-p", "tsconfig.build.json", "--outDir", directory]);
  // Imported lazily, so that a clone without development dependencies can build the addon.
  const { buildSync } = createRequire(import.meta.url)("esbuild");
  buildSync({
    absWorkingDir: ROOT,
    entryPoints: ["index.ts"],
    outfile: join(directory, "index.js"),
    bundle: true,
    format: "esm",
    platform: "node",
    target: "node22",
    external: ["@earendil-works/*"],
    logLevel: "warning",
  });
}

if (process.argv[1] === import.meta.filename) {
  const { values } = parseArgs({
    options: {
      release: { type: "boolean", default: false },
      debug: { type: "boolean", default: false },
      platform: { type: "string", default: platformName() },
      zig: { type: "boolean", default: false },
    },
  });
  buildAddon(values.release, values);
  if (values.release) {
    // A clone that Pi made has no development dependencies, and Pi loads the TypeScript itself.
    if (existsSync(TSC)) buildJavaScript();
    else console.log("dist/, which only programs outside of Pi need, was not built: it needs `npm install`.");
  }
}
