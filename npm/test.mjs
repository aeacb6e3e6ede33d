// All tests: Rust first (they need no Node), then the addon and everything that runs it. Arguments name single Node test files.
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { buildAddon } from "./build.mjs";

const ROOT = join(import.meta.dirname, "..");
const named = process.argv.slice(2);

function run(command, args) {
  const { status, error } = spawnSync(command, args, { cwd: ROOT, stdio: "inherit" });
  if (error) console.error(`${command}: ${error.message}`);
  if (status !== 0) process.exit(status ?? 1);
}

buildAddon(false); // also says in one sentence if Rust is missing
if (named.length === 0) run("cargo", ["test", "--locked", "--quiet"]);
// interop.test.ts installs another program and has a script of its own.
const all = readdirSync(join(ROOT, "tests")).filter((file) => file.endsWith(".test.ts") && !file.startsWith("interop"));
const files = named.length === 0 ? all.map((file) => join("tests", file)) : named;
// Each file starts programs of its own; two at a time keep a small machine responsive.
run(process.execPath, ["--test", "--test-concurrency=2", "--test-reporter=spec", ...files]);
