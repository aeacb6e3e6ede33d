// Builds the addon into npm/<platform>/ and, for a release build, the JavaScript that plain Node programs import.
//
// `cargo rustc --crate-type cdylib` and not a "cdylib" in Cargo.toml: the crate is a library for its own tests, and rustc
// leaves link-time optimisation out where both kinds are built at once (4.0 MB instead of 3.4 MB).
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, renameSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { platformName } from "../extension/native.ts";

const ROOT = join(import.meta.dirname, "..");
const LIBRARY = { darwin: "libkimi_code.dylib", win32: "kimi_code.dll" }[process.platform] ?? "libkimi_code.so";

function run(command, args) {
  const { status, error } = spawnSync(command, args, { cwd: ROOT, stdio: "inherit" });
  if (error?.code === "ENOENT" && command === "cargo") {
    console.error("Building the addon needs Rust: install the stable toolchain from https://rustup.rs and try again.");
    process.exit(1);
  }
  if (status !== 0) process.exit(status ?? 1);
}

/** Builds the addon and puts it where the loader looks first. */
export function buildAddon(release) {
  const profile = release ? ["--release"] : [];
  run("cargo", ["rustc", "--locked", "--lib", "--crate-type", "cdylib", ...profile]);
  const directory = join(ROOT, "npm", platformName());
  const addon = join(directory, "kimi-code.node");
  mkdirSync(directory, { recursive: true });
  // Renamed into place: a running Pi keeps the file it has mapped.
  copyFileSync(join(ROOT, "target", release ? "release" : "debug", LIBRARY), `${addon}.new`);
  renameSync(`${addon}.new`, addon);
  console.log(`${addon} (${(statSync(addon).size / 1e6).toFixed(2)} MB)`);
}

/** Compiles index.ts and extension/ into `directory`. */
export function buildJavaScript(directory = join(ROOT, "dist")) {
  rmSync(directory, { recursive: true, force: true });
  const tsc = join(ROOT, "node_modules", "typescript", "bin", "tsc");
  run(process.execPath, [tsc, "-p", "tsconfig.build.json", "--outDir", directory]);
}

if (process.argv[1] === import.meta.filename) {
  const release = process.argv.includes("--release");
  buildAddon(release);
  if (release) buildJavaScript();
}
