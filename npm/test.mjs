// All tests: Rust first (they need no Node), then the addon and everything that runs it. An argument names Node test files: one by
// its path, or all whose path contains it.
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { buildAddon } from "./build.mjs";

const ROOT = join(import.meta.dirname, "..");
/** Installs another program and has a script of its own. */
const INTEROP = "tests/auth/interop.test.ts";
const named = process.argv.slice(2);

function run(command, args) {
  const { status, error } = spawnSync(command, args, { cwd: ROOT, stdio: "inherit" });
  if (error) console.error(`${command}: ${error.message}`);
  if (status !== 0) process.exit(status ?? 1);
}

const all = readdirSync(join(ROOT, "tests"), { recursive: true })
  .filter((file) => file.endsWith(".test.ts"))
  .map((file) => `tests/${file.replaceAll("\\", "/")}`)
  .sort();
/** The test files that an argument means. */
function matching(argument) {
  const path = argument.replaceAll("\\", "/").replace(/^\.\//, "");
  if (all.includes(path)) return [path];
  const found = all.filter((file) => file !== INTEROP && file.includes(path));
  if (found.length > 0) return found;
  console.error(`No test file has a path that contains ${argument}.`);
  process.exit(1);
}
const files =
  named.length === 0 ? all.filter((file) => file !== INTEROP) : [...new Set(named.flatMap((name) => matching(name)))];

buildAddon(false); // also says in one sentence if Rust is missing
if (named.length === 0) run("cargo", ["test", "--locked", "--quiet"]);
// Each file starts programs of its own; two at a time keep a small machine responsive.
run(process.execPath, ["--test", "--test-concurrency=2", "--test-reporter=spec", ...files]);
