/** Programs that were bundled with the client inside: built by docs/examples/bundled, run where no package of ours lies around them. */
import assert from "node:assert/strict";
import { cpSync, existsSync, mkdirSync, readFileSync, renameSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { after, before, beforeEach, describe, test } from "node:test";
import { packRoot } from "../../npm/pack.mjs";
import { type Simulator, startSimulator } from "../simulator/index.ts";
import { ADDON, PLATFORM_PACKAGE, run, runAside } from "../support/packages.ts";
import { Home, ROOT } from "../support/pi.ts";
import { fetchedTool } from "../support/tools.ts";

const EXE = process.platform === "win32" ? ".exe" : "";
const NAME = "pi-provider-kimi-code";

let simulator: Simulator;
let home: Home;
/** The folder in which a program is built. */
let work: string;

before(async () => {
  simulator = await startSimulator({ identityGate: "off" });
  home = new Home();
  work = join(home.path, "built");
  const root = join(work, "node_modules", NAME);
  mkdirSync(root, { recursive: true });
  run("tar", ["-xzf", packRoot(home.tmp), "-C", root, "--strip-components=1"], work);
  cpSync(join(ROOT, "docs", "examples", "bundled"), work, { recursive: true });
  // The version of the program, which is not ours.
  writeFileSync(join(work, "package.json"), '{"private":true,"version":"9.9.9"}');
});
after(async () => {
  home.remove();
  await simulator.close();
});
beforeEach(() => simulator.reset());

/** Makes a package of a tool visible to the program's folder. */
function link(name: string, folder: string): void {
  const target = join(work, "node_modules", name);
  if (existsSync(target)) return;
  mkdirSync(dirname(target), { recursive: true });
  symlinkSync(folder, target, "junction");
}

/** A folder that holds nothing but the program. */
function deployed(file: string): string {
  const folder = join(home.path, `deployed ${file}`);
  mkdirSync(folder, { recursive: true });
  cpSync(join(work, "dist", file), join(folder, file));
  writeFileSync(join(folder, "package.json"), '{"private":true,"version":"9.9.9"}');
  return folder;
}

async function answer(program: string[], folder: string, extra: Record<string, string> = {}): Promise<string> {
  simulator.enqueue({ steps: [{ text: "Hello from a bundle." }] });
  const env = home.env({ KIMI_CODE_BASE_URL: simulator.baseUrl, KIMI_API_KEY: simulator.apiKey, ...extra });
  const [command = "", ...args] = program;
  try {
    return (await runAside(command, args, folder, env)).trim();
  } catch (error) {
    // A bundle is one line; what it said is at the end.
    return String(error).slice(-3000);
  }
}

interface Bundler {
  name: string;
  file: string;
  build(): void;
  command(file: string): string[];
}

const node = (file: string): string[] => ["node", file];

const BUNDLERS: Bundler[] = [
  {
    name: "esbuild, ES module",
    file: "esbuild.mjs",
    build() {
      link("esbuild", join(ROOT, "node_modules", "esbuild"));
      run("node", ["esbuild.mjs"], work);
    },
    command: node,
  },
  {
    name: "esbuild, CommonJS",
    file: "esbuild.cjs",
    build() {
      link("esbuild", join(ROOT, "node_modules", "esbuild"));
      // Top-level await does not exist there.
      writeFileSync(
        join(work, "common.cjs"),
        `const { Kimi } = require("${NAME}/client");
         new Kimi({ native: process.env.KIMI_ADDON }).chat("hi").text().then(console.log);`,
      );
      const options = `{ entryPoints: ["common.cjs"], outfile: "dist/esbuild.cjs", bundle: true, platform: "node", format: "cjs", logLevel: "error" }`;
      run("node", ["-e", `require("esbuild").buildSync(${options})`], work);
    },
    command: node,
  },
  {
    name: "Rollup",
    file: "rollup.mjs",
    build() {
      const rollup = fetchedTool("rollup@4", "rollup/dist/bin/rollup");
      link(
        "@rollup/plugin-node-resolve",
        dirname(fetchedTool("@rollup/plugin-node-resolve@16", "@rollup/plugin-node-resolve/package.json")),
      );
      run("node", [rollup, "-c", "--silent"], work);
    },
    command: node,
  },
  {
    name: "webpack",
    file: "webpack.cjs",
    build() {
      const webpack = dirname(fetchedTool("webpack@5", "webpack/package.json"));
      run(
        "node",
        [
          "-e",
          `require(${JSON.stringify(webpack)})(require("./webpack.config.cjs"), (error, stats) => { if (error || stats.hasErrors()) throw error ?? new Error(stats.toString()); })`,
        ],
        work,
      );
    },
    command: node,
  },
  {
    name: "Bun, one executable",
    file: `bun${EXE}`,
    build() {
      const platform = process.platform === "win32" ? "windows" : process.platform;
      const name = `@oven/bun-${platform}-${process.arch === "arm64" ? "aarch64" : "x64"}`;
      const bun = fetchedTool(`${name}@1`, `${name}/bin/bun${EXE}`);
      run(bun, ["build", "--compile", "program.mjs", "--outfile", join("dist", "bun")], work);
    },
    command: (file) => [file],
  },
];

for (const { name, file, build, command } of BUNDLERS) {
  describe(`bundle: ${name}`, () => {
    let folder: string;

    before(() => {
      build();
      folder = deployed(file);
    });

    const program = (directory: string): string[] => command(join(directory, file));

    test("addon in node_modules of the program → answers", async () => {
      const modules = join(folder, "node_modules", PLATFORM_PACKAGE);
      mkdirSync(modules, { recursive: true });
      cpSync(ADDON, join(modules, "kimi-code.node"));
      assert.equal(await answer(program(folder), home.cwd), "Hello from a bundle.");
    });

    test("addon beside the program → answers", async () => {
      const beside = join(folder, "beside");
      mkdirSync(beside);
      cpSync(join(folder, file), join(beside, file));
      cpSync(ADDON, join(beside, "kimi-code.node"));
      assert.equal(await answer(program(beside), home.cwd), "Hello from a bundle.");
    });

    test("no addon → says how to provide one; named by option or variable → answers", async () => {
      const alone = join(home.path, "alone", file);
      mkdirSync(alone, { recursive: true });
      cpSync(join(folder, file), join(alone, file));
      // webpack writes the path of the build into a bundle; where it is deployed, nothing lies there.
      renameSync(join(work, "node_modules", NAME), join(work, "hidden"));
      const failed = await answer(program(alone), home.cwd);
      renameSync(join(work, "hidden"), join(work, "node_modules", NAME));
      assert.match(failed, /This program is bundled\. Repair: .*`native` or in KIMI_CODE_NATIVE/);
      assert.doesNotMatch(failed, /9\.9\.9/);
      simulator.reset();
      assert.equal(await answer(program(alone), home.cwd, { KIMI_ADDON: ADDON }), "Hello from a bundle.");
      assert.equal(await answer(program(alone), home.cwd, { KIMI_CODE_NATIVE: ADDON }), "Hello from a bundle.");
    });
  });
}

test("bundle: pnpm's links in node_modules → the addon beside our package is found", async () => {
  const folder = join(home.path, "pnpm program");
  const store = join(folder, "node_modules", ".pnpm", "store", "node_modules");
  mkdirSync(join(store, NAME), { recursive: true });
  mkdirSync(join(store, PLATFORM_PACKAGE), { recursive: true });
  cpSync(ADDON, join(store, PLATFORM_PACKAGE, "kimi-code.node"));
  symlinkSync(join(store, NAME), join(folder, "node_modules", NAME), "junction");
  cpSync(join(work, "dist", "esbuild.mjs"), join(folder, "program.mjs"));
  assert.equal(await answer(["node", join(folder, "program.mjs")], home.cwd), "Hello from a bundle.");
});

test("bundle: Electron's archive → the addon in app.asar.unpacked is found", async () => {
  const resources = join(home.path, "resources");
  const unpacked = join(resources, "app.asar.unpacked", "node_modules", PLATFORM_PACKAGE);
  mkdirSync(unpacked, { recursive: true });
  cpSync(ADDON, join(unpacked, "kimi-code.node"));
  // Electron makes its archive look like a folder; here it is one.
  const program = join(resources, "app.asar", "program.mjs");
  mkdirSync(dirname(program), { recursive: true });
  cpSync(join(work, "dist", "esbuild.mjs"), program);
  assert.equal(await answer(["node", program], home.cwd), "Hello from a bundle.");
});

test("bundle: main entry with Pi's packages external → answers without Pi", async () => {
  link("esbuild", join(ROOT, "node_modules", "esbuild"));
  writeFileSync(
    join(work, "main.mjs"),
    readFileSync(join(work, "program.mjs"), "utf8").replace(`${NAME}/client`, NAME),
  );
  const options = `{ entryPoints: ["main.mjs"], outfile: "dist/main.mjs", bundle: true, platform: "node", format: "esm", external: ["@earendil-works/*"], logLevel: "error" }`;
  run("node", ["-e", `require("esbuild").buildSync(${options})`], work);
  const folder = deployed("main.mjs");
  assert.equal(
    await answer(["node", join(folder, "main.mjs")], home.cwd, { KIMI_ADDON: ADDON }),
    "Hello from a bundle.",
  );
});
