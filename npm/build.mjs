// Builds the addon into npm/<platform>/ and, for a release build, the JavaScript that plain Node programs import.
//
// `node npm/build.mjs --release | --debug [--platform linux-x64-musl] [--zig]`. Another platform than this one needs what
// docs/building.md describes; `--zig` links with zig, which gives Linux addons their low glibc floor.
//
// `cargo rustc --crate-type cdylib` and not a "cdylib" in Cargo.toml: the crate is a library for its own tests, and rustc
// leaves link-time optimisation out where both kinds are built at once.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";
import { platformName } from "../extension/native/platform.ts";
import { packageName } from "./manifests.mjs";
import { GLIBC_FLOOR, PLATFORMS } from "./platforms.mjs";

const ROOT = join(import.meta.dirname, "..");
const TSC = join(ROOT, "node_modules", "typescript", "bin", "tsc");
const LIBRARIES = { darwin: "libkimi_code.dylib", win32: "kimi_code.dll" };

function run(command, args, rustFlags = []) {
  // The separated form takes folders with blanks. An environment that sets flags of its own keeps them.
  const own = process.env.RUSTFLAGS?.split(" ").filter(Boolean) ?? [];
  const encoded = { CARGO_ENCODED_RUSTFLAGS: [...own, ...rustFlags].join("\u001f") };
  const env = rustFlags.length > 0 ? { ...process.env, ...encoded } : process.env;
  const { status, error } = spawnSync(command, args, { cwd: ROOT, stdio: "inherit", env });
  if (error?.code === "ENOENT" && command === "cargo") {
    console.error("Building the addon needs Rust: install the stable toolchain from https://rustup.rs and try again.");
    process.exit(1);
  }
  if (error) console.error(`${command}: ${error.message}`);
  if (status !== 0) process.exit(status ?? 1);
}

/** Compiles the addon and returns the path of the library. `symbols` keeps the names of its functions. */
export function compileAddon(release, { platform = platformName(), zig = false, symbols = false } = {}) {
  const { os = [process.platform], libc = [], target } = PLATFORMS[platform] ?? {};
  const foreign = zig || platform !== platformName();
  const floor = zig && libc.includes("glibc") ? `.${GLIBC_FLOOR}` : "";
  const options = [...(release ? ["--release"] : []), ...(foreign ? ["--target", `${target}${floor}`] : [])];
  const [command, verb] = zig ? ["cargo-zigbuild", "rustc"] : ["cargo", "rustc"];
  const flags = [...libraryFlags(platform), ...(release ? pathFlags() : [])];
  const last = [...(symbols ? ["-Cstrip=none"] : []), ...linkFlags(os[0])];
  run(command, [verb, "--locked", "--lib", "--crate-type", "cdylib", ...options, "--", ...last], flags);

  const output = process.env.CARGO_TARGET_DIR ?? join(ROOT, "target");
  const library = LIBRARIES[os[0]] ?? "libkimi_code.so";
  return join(output, foreign ? target : "", release ? "release" : "debug", library);
}

/** Builds the addon and puts it where the loader looks first. */
export function buildAddon(release, { platform = platformName(), zig = false } = {}) {
  const library = compileAddon(release, { platform, zig });
  const directory = join(ROOT, "npm", platform);
  const addon = join(directory, "kimi-code.node");
  mkdirSync(directory, { recursive: true });
  // Renamed into place: a running Pi keeps the file it has mapped.
  copyFileSync(library, `${addon}.new`);
  renameSync(`${addon}.new`, addon);
  console.log(`${addon} (${(statSync(addon).size / 1e6).toFixed(2)} MB)`);
}

/** Flags for the C library: musl must be linked dynamically to be loaded by Node, Microsoft's runtime may be missing. */
function libraryFlags(platform) {
  if (platform.endsWith("-musl")) return ["-Ctarget-feature=-crt-static"];
  if (platform.startsWith("win32-")) return ["-Ctarget-feature=+crt-static"];
  return [];
}

/**
 * Linker flags without which a library differs from build to build: macOS puts the path of the output into it, Microsoft's linker
 * the time.
 */
function linkFlags(os) {
  if (os === "darwin") return ["-Clink-arg=-install_name", "-Clink-arg=@rpath/kimi-code.node"];
  return os === "win32" ? ["-Clink-arg=/Brepro"] : [];
}

/** Flags that keep this machine's folders out of the addon, so that builds in other folders give the same bytes. */
function pathFlags() {
  const cargo = process.env.CARGO_HOME ?? join(homedir(), ".cargo");
  return [`--remap-path-prefix=${ROOT}=/kimi-code`, `--remap-path-prefix=${cargo}=/cargo`];
}

const readRoot = () => JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));

/** The published entries: source, and name in `dist/` and in the exports of package.json. */
export const ENTRIES = {
  index: "index.ts",
  client: "extension/client/index.ts",
  "ai-sdk": "extension/ai-sdk.ts",
  simulator: "tests/simulator/published.ts",
};

/** Programs of the package: source, and name in `dist/`. They have no types. */
export const PROGRAMS = { cli: "extension/cli.ts" };

/**
 * Compiles the published entries into `directory`: types, JavaScript with one file per entry, because Node needs a millisecond per
 * file, and a wrapper for `require()`.
 */
export function buildJavaScript(directory = join(ROOT, "dist"), root = readRoot()) {
  rmSync(directory, { recursive: true, force: true });
  buildTypes(directory);
  const exported = {};
  const extension = buildExtension(directory, root);
  const build = (name, source, firstLine) => buildEntry(directory, { name, source, extension, firstLine }, root);
  for (const [name, source] of Object.entries(ENTRIES)) exported[name] = build(name, source);
  for (const [name, source] of Object.entries(PROGRAMS)) build(name, source, "#!/usr/bin/env node");
  exported.index.push(...exported.client);
  for (const [name, names] of Object.entries(exported)) {
    // The wrapper for `require()` passes the module on, so that a program has one set of classes.
    const lines = names.map((member) => `exports.${member} = all.${member};`);
    const head = 'Object.defineProperty(exports, "__esModule", { value: true });';
    writeFileSync(
      join(directory, `${name}.cjs`),
      [head, `const all = require("./${name}.js");`, ...lines, ""].join("\n"),
    );
  }
}

/**
 * What bundles import instead of containing it: the client, so that a program has one set of its classes, and the extension, so that
 * programs without Pi do not compile it.
 */
const CLIENT = "*/client/index.ts";
const EXTENSION = "./register.ts";

/** Bundles one entry and returns the names that it exports itself. `extension` is the file of `buildExtension`. */
function buildEntry(directory, { name, source, extension, firstLine }, root) {
  const external = source === ENTRIES.client ? [] : [CLIENT, EXTENSION];
  const transcribed = name === "simulator" ? JSON.stringify(transcripts()) : "undefined";
  const { code: bundled, exported } = bundle(source, root, { external, transcribed });
  const code = bundled
    .replace(/"[./]+(?:extension\/)?client\/index\.ts"/g, '"./client.js"')
    .replaceAll(`"${EXTENSION}"`, `"./${extension}"`);
  writeFileSync(join(directory, `${name}.js`), firstLine === undefined ? code : `${firstLine}\n${code}`, {
    mode: firstLine === undefined ? 0o644 : 0o755,
  });
  return exported;
}

/**
 * Writes the extension for Pi: `pi.ts`, and everything it imports as one file of JavaScript, whose name it returns.
 *
 * Pi translates each TypeScript file of an extension, which takes a millisecond per file and half a second where no translation is
 * stored. The JavaScript is loaded by Node itself. Node keeps a module by its path, so the name contains a hash of the content: after
 * an update `/reload` would run the old code.
 */
function buildExtension(directory, root) {
  const { code } = bundle("extension/register.ts", root);
  const name = `pi-${createHash("sha256").update(code).digest("hex").slice(0, 16)}.js`;
  writeFileSync(join(directory, name), code);
  const entry = bundle("extension/pi.ts", root, { external: [EXTENSION] });
  writeFileSync(join(directory, "pi.ts"), entry.code.replaceAll(`"${EXTENSION}"`, `"./${name}"`));
  return name;
}

/** Bundles one source into JavaScript; returns it and the names that it exports itself. */
function bundle(source, root, { external = [], transcribed = "undefined" } = {}) {
  // Imported lazily, so that a clone without development dependencies can build the addon.
  const { buildSync } = createRequire(import.meta.url)("esbuild");
  const { outputFiles, metafile } = buildSync({
    absWorkingDir: ROOT,
    entryPoints: [source],
    write: false,
    metafile: true,
    bundle: true,
    format: "esm",
    platform: "node",
    target: "node20",
    define: {
      COMPILED_PACKAGE_INFO: JSON.stringify({
        name: root.name,
        version: root.version,
        platformPrefix: packageName("", root),
      }),
      COMPILED_TRANSCRIPTS: transcribed,
    },
    // No comments and indentation: they are half of the size. Names stay for stack traces, and lines are short because Node prints
    // the one in which an uncaught error was thrown.
    minifyWhitespace: true,
    lineLimit: 160,
    external: ["@earendil-works/*", "@ai-sdk/*", ...external],
    logLevel: "warning",
  });
  return { code: outputFiles[0].text, exported: Object.values(metafile.outputs)[0].exports };
}

/** Reads the simulator's transcripts. */
function transcripts() {
  const folder = join(ROOT, "tests", "simulator", "transcripts");
  return Object.fromEntries(
    readdirSync(folder).map((file) => [file.replace(/\.sse$/, ""), readFileSync(join(folder, file), "utf8")]),
  );
}

/** Writes the declarations that the entries refer to, for both module systems. */
function buildTypes(directory) {
  run(process.execPath, [TSC, "-p", "tsconfig.build.json", "--outDir", directory]);
  const needed = new Set();
  const follow = (file) => {
    if (needed.has(file)) return;
    needed.add(file);
    const text = readFileSync(join(directory, file), "utf8");
    for (const [, target] of text.matchAll(/(?:from |import\()"(\.[^"]+)\.ts"/g)) {
      follow(join(dirname(file), `${target}.d.ts`));
    }
    writeFileSync(
      join(directory, file.replace(/\.d\.ts$/, ".d.cts")),
      text.replace(/((?:from |import\()"\.[^"]+)\.ts"/g, '$1.cts"'),
    );
  };
  for (const [name, source] of Object.entries(ENTRIES)) {
    const declaration = source.replace(/\.ts$/, ".d.ts");
    if (declaration !== `${name}.d.ts`) {
      writeFileSync(join(directory, `${name}.d.ts`), `export * from "./${source}";\n`);
    }
    follow(`${name}.d.ts`);
  }
  for (const file of readdirSync(directory, { recursive: true })) {
    if (file.endsWith(".d.ts") && !needed.has(file)) rmSync(join(directory, file));
  }
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
