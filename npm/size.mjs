// Shows what the release addon consists of: `npm run size`. It is compiled with the names of its functions, which `nm` and `size`
// of binutils read, and the size that counts is that of the stripped file.
//
// `node npm/size.mjs --check <file>` fails where an addon is larger than the limit; the release workflow does this on each platform.
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { compileAddon } from "./build.mjs";

/** Largest stripped addon of linux-x64-gnu, in bytes. A feature that needs more says so in docs/performance.md#size. */
export const LIMIT = 7_000_000;

/** The same for platforms that are not built while developing: other instructions and C libraries need more room. */
const LIMIT_ELSEWHERE = 8_000_000;

/** Crates with less code than this are shown together, in bytes. */
const SMALL = 20_000;

function tool(command, ...args) {
  const { status, stdout, error } = spawnSync(command, args, { encoding: "utf8", maxBuffer: 256 << 20 });
  if (error?.code === "ENOENT") throw new Error(`${command} is missing: install binutils.`);
  if (status !== 0) throw new Error(`${command} ${args.join(" ")} failed`);
  return stdout;
}

/** Returns the bytes of code per crate, by the names that `nm --demangle` prints, largest first. */
export function codeByCrate(symbols) {
  const crates = new Map();
  for (const line of symbols.split("\n")) {
    const [, size, kind, name] = /^[0-9a-f]+ ([0-9a-f]+) (\w) (.+)$/.exec(line) ?? [];
    if (size === undefined || !/[tT]/.test(kind)) continue;
    // A method of a trait is named `<Type as Trait>::method`. What has no path is C or assembly.
    const crate =
      /^[<&(*[]*(?:mut |dyn |const )*(\w+)(?:\[[0-9a-f]+\])?::/.exec(name)?.[1] ?? "C and assembly, shared code";
    crates.set(crate, (crates.get(crate) ?? 0) + Number.parseInt(size, 16));
  }
  return [...crates].sort(([, a], [, b]) => b - a);
}

function report() {
  const library = compileAddon(true, { symbols: true });
  const folder = mkdtempSync(join(tmpdir(), "kimi-size-"));
  const rows = (title, entries) => {
    console.log(`\n| ${title} | KB |\n|---|---:|`);
    for (const [name, size] of entries) console.log(`| ${name} | ${Math.round(size / 1000)} |`);
  };
  try {
    const stripped = join(folder, "addon");
    copyFileSync(library, stripped);
    tool("strip", stripped);
    const sections = [...tool("size", "-A", stripped).matchAll(/^(\.\S+)\s+(\d+)/gm)].map(([, name, size]) => [
      name,
      +size,
    ]);
    const shown = (entries) => {
      const small = entries.filter(([, size]) => size < SMALL).reduce((sum, [, size]) => sum + size, 0);
      return [...entries.filter(([, size]) => size >= SMALL), ["smaller ones", small]];
    };
    rows("section", shown(sections.sort(([, a], [, b]) => b - a)));
    rows("code of", shown(codeByCrate(tool("nm", "-S", "--demangle=rust", library))));
    check(stripped, LIMIT);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function check(file, limit) {
  const { size } = statSync(file);
  const text = `${(size / 1e6).toFixed(2)} MB, at most ${(limit / 1e6).toFixed(2)} MB`;
  console.log(`\nAddon, stripped: ${text}`);
  if (size > limit) process.exitCode = 1;
}

if (process.argv[1] === import.meta.filename) {
  const { values } = parseArgs({ options: { check: { type: "string" } } });
  if (values.check === undefined) report();
  else check(values.check, values.check.includes("linux-x64-gnu") ? LIMIT : LIMIT_ELSEWHERE);
}
