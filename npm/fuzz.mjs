// Runs the fuzz targets of tests/fuzz/targets/: `npm run fuzz [-- <target> ...] [--seconds 60] [--jobs 1]`.
//
// The address sanitizer is off: it needs a nightly toolchain and halves the speed, and the core forbids unsafe code. New inputs
// stay in target/fuzz/; put an input that fails into tests/fuzz/corpus/<target>/, where `cargo test` runs it from then on.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync } from "node:fs";
import { join, relative } from "node:path";
import { parseArgs } from "node:util";

const ROOT = join(import.meta.dirname, "..");
const FUZZ = join(ROOT, "tests", "fuzz");
const OUTPUT = join(ROOT, "target", "fuzz");
const CARGO_FUZZ = "0.13.2";

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: { seconds: { type: "string", default: "60" }, jobs: { type: "string", default: "1" } },
});

function fail(why) {
  console.error(why);
  process.exit(1);
}

function cargo(...args) {
  const { status, error } = spawnSync("cargo", args, { cwd: ROOT, stdio: "inherit" });
  if (error !== undefined)
    fail("Fuzzing needs Rust: install the stable toolchain from https://rustup.rs and try again.");
  if (status !== 0)
    fail(`cargo ${args.slice(0, 2).join(" ")} failed; fuzzing also needs a C++ compiler, for libFuzzer.`);
}

/** Builds these targets, or all if none are named, and returns the folder of the programs. */
function build(targets) {
  if (process.platform === "win32") fail("libFuzzer is not set up for Windows here: use WSL.");
  if (spawnSync("cargo", ["fuzz", "--version"]).status !== 0) {
    console.log(`cargo-fuzz ${CARGO_FUZZ} is missing and will be installed from crates.io.`);
    cargo("install", "cargo-fuzz", "--locked", "--version", CARGO_FUZZ);
  }
  for (const target of targets.length > 0 ? targets.map((name) => [name]) : [[]]) {
    cargo("fuzz", "build", "--fuzz-dir", FUZZ, "--target-dir", OUTPUT, "--sanitizer", "none", ...target);
  }
  const host = /^host: (.+)$/m.exec(spawnSync("rustc", ["-vV"], { encoding: "utf8" }).stdout)?.[1];
  return join(OUTPUT, host ?? "", "release");
}

/** Runs one target; resolves to whether it passed. */
async function run(programs, target) {
  const [corpus, findings] = ["corpus", "findings"].map((name) => join(OUTPUT, name, target));
  for (const folder of [corpus, findings]) mkdirSync(folder, { recursive: true });
  const limits = [`-max_total_time=${flags.seconds}`, "-timeout=5", "-report_slow_units=1", "-rss_limit_mb=1024"];
  const words = `-dict=${join(FUZZ, "words.dict")}`;
  const seeds = join(FUZZ, "corpus", target);
  // Targets that write files run ten times faster in memory.
  const memory = existsSync("/dev/shm") ? { TMPDIR: "/dev/shm" } : {};
  const child = spawn(
    join(programs, target),
    [...limits, words, "-max_len=16384", "-print_final_stats=1", `-artifact_prefix=${findings}/`, corpus, seeds],
    { cwd: ROOT, env: { ...process.env, RUST_BACKTRACE: "0", ...memory }, stdio: ["ignore", "pipe", "pipe"] },
  );
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text) => {
      output = (output + text).slice(-64_000);
    });
  }
  const [code, signal] = await once(child, "close");
  const stat = (name) => output.match(new RegExp(`stat::${name}:\\s+(\\d+)`))?.[1] ?? "?";
  console.log(
    `${target.padEnd(12)} ${code === 0 ? "holds" : "BROKEN"}  ${stat("number_of_executed_units")} inputs, ` +
      `slowest ${stat("slowest_unit_time_sec")} s, ${stat("peak_rss_mb")} MB`,
  );
  if (code !== 0) {
    console.log(`Ended with ${signal ?? code}.`);
    console.log(output.replaceAll(/^#.*\n/gm, ""));
    console.log(`Again: ${relative(ROOT, join(programs, target))} <file of ${relative(ROOT, findings)}>`);
  }
  return code === 0;
}

const known = readdirSync(join(FUZZ, "corpus")).sort();
const unknown = positionals.filter((name) => !known.includes(name));
if (unknown.length > 0) fail(`No such target: ${unknown.join(", ")}. There are: ${known.join(", ")}.`);
const waiting = positionals.length > 0 ? [...positionals] : [...known];
const programs = build(positionals);
const results = [];
const worker = async () => {
  for (let target = waiting.shift(); target !== undefined; target = waiting.shift()) {
    results.push(await run(programs, target));
  }
};
await Promise.all(Array.from({ length: Number(flags.jobs) }, worker));
process.exit(results.every(Boolean) ? 0 : 1);
