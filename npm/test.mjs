// Runs all tests: Rust first, then the addon and everything that needs it. An argument selects Node test files by path or part of
// a path.
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { MATRIX } from "../tests/pi/matrix.ts";
import { PI_VERSIONS, piInstallation } from "../tests/support/pi-versions.ts";
import { buildAddon } from "./build.mjs";

const ROOT = join(import.meta.dirname, "..");
/** Installs another program, so it runs through a script of its own. */
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
/** Returns the test files selected by an argument. */
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

if (named.length === 0) for (const version of PI_VERSIONS) piInstallation(version);
buildAddon(false); // also reports a missing Rust toolchain
if (named.length === 0) run("cargo", ["test", "--locked", "--quiet"]);
/** Runs test files with one version of Pi, three at a time: they mostly wait for programs that they have started. */
function test(files, version) {
  process.env.KIMI_TEST_PI = version;
  run(process.execPath, ["--test", "--test-concurrency=3", "--test-reporter=spec", ...files]);
}

// KIMI_TEST_PI selects one version. Named files run in one version too.
const [first, ...others] = process.env.KIMI_TEST_PI ? [process.env.KIMI_TEST_PI] : PI_VERSIONS;
test(files, first);
const everywhere = MATRIX.filter(({ versions }) => versions === "all").map(({ file }) => `tests/${file}`);
for (const version of named.length === 0 ? others : []) {
  console.log(`\n=== Pi ${version}`);
  test(everywhere, version);
}
