/** Finds the addon in every layout that package managers create, and checks the error if it is missing. */
import assert from "node:assert/strict";
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { packRoot } from "../../npm/pack.mjs";
import { ADDON, manifest, PLATFORM, PLATFORM_PACKAGE, run } from "../support/packages.ts";
import { Home } from "../support/pi.ts";

const NAME = "pi-provider-kimi-code";
const { version: VERSION } = manifest();

let packed: Home;
let tarball: string;
let home: Home;

before(() => {
  packed = new Home();
  tarball = packRoot(packed.path);
});
after(() => packed.remove());
beforeEach(() => {
  home = new Home();
});
afterEach(() => home.remove());

/** Unpacks the root package. */
function unpack(directory: string): string {
  mkdirSync(directory, { recursive: true });
  run("tar", ["-xzf", tarball, "-C", directory, "--strip-components=1"], home.path);
  return directory;
}

/** Creates a platform package in a node_modules directory, with the real addon by default. */
function platformPackage(modules: string, fill = (file: string): void => copyFileSync(ADDON, file)): void {
  const directory = join(modules, PLATFORM_PACKAGE);
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, "package.json"), JSON.stringify({ name: PLATFORM_PACKAGE, main: "kimi-code.node" }));
  fill(join(directory, "kimi-code.node"));
}

/** Loads the package in a new process: "loaded", or the error. */
function load(root: string): string {
  const script = `
    import { Kimi } from ${JSON.stringify(new URL(`file://${join(root, "dist", "index.js")}`).href)};
    try { new Kimi(); console.log("loaded"); } catch (error) { console.log(error.code + ": " + error.message); }`;
  return run("node", ["--input-type=module", "-e", script], home.cwd, home.env()).trim();
}

describe("loader: addon found", () => {
  test("beside the package, as npm hoists it", () => {
    const modules = join(home.path, "a b", "node_modules");
    platformPackage(modules);
    assert.equal(load(unpack(join(modules, NAME))), "loaded");
  });

  test("inside the package, as npm nests it, with another version beside the package", () => {
    const modules = join(home.path, "node_modules");
    const root = unpack(join(modules, NAME));
    platformPackage(modules, (file) => writeFileSync(file, "another version"));
    platformPackage(join(root, "node_modules"));
    assert.equal(load(root), "loaded");
  });

  test("next to a package of another version that is nearer", () => {
    const modules = join(home.path, "node_modules");
    const root = unpack(join(modules, NAME));
    platformPackage(modules);
    platformPackage(join(root, "node_modules"), (file) => writeFileSync(file, "broken"));
    assert.equal(load(root), "loaded");
  });

  test("through the symlinks of pnpm's and Bun's stores", () => {
    const store = join(home.path, "node_modules", ".pnpm", `${NAME}@${VERSION}`, "node_modules");
    unpack(join(store, NAME));
    const folder = `${PLATFORM_PACKAGE.replace("/", "+")}@${VERSION}`;
    const binary = join(home.path, "node_modules", ".pnpm", folder, "node_modules");
    platformPackage(binary);
    mkdirSync(dirname(join(store, PLATFORM_PACKAGE)), { recursive: true });
    symlinkSync(join(binary, PLATFORM_PACKAGE), join(store, PLATFORM_PACKAGE), "junction");
    const link = join(home.path, "node_modules", NAME);
    symlinkSync(join(store, NAME), link, "junction");
    assert.equal(load(link), "loaded");
  });

  test("in npm/, as in a checkout and the all-in-one tarball", () => {
    const root = unpack(join(home.path, "checkout"));
    mkdirSync(join(root, "npm", PLATFORM), { recursive: true });
    copyFileSync(ADDON, join(root, "npm", PLATFORM, "kimi-code.node"));
    assert.equal(load(root), "loaded");
    const link = join(home.path, "elsewhere", "link");
    mkdirSync(dirname(link));
    symlinkSync(root, link, "junction");
    assert.equal(load(link), "loaded");
  });
});

test("read-only node_modules → nothing is written there", () => {
  const modules = join(home.path, "node_modules");
  platformPackage(modules);
  const root = unpack(join(modules, NAME));
  const listing = (): string[] => readdirSync(home.path, { recursive: true }).map(String).sort();
  const before = listing();
  assert.equal(load(root), "loaded");
  assert.deepEqual(listing(), before);
});

describe("loader: update of a running program", () => {
  test("new file under the same path → loaded from a copy", () => {
    // The addon's version is compiled in, so a stand-in loaded from the same path plays the old one.
    const root = unpack(join(home.path, "node_modules", NAME));
    platformPackage(join(home.path, "node_modules"));
    const path = join(home.path, "node_modules", PLATFORM_PACKAGE, "kimi-code.node");
    const script = `
      import { createRequire } from "node:module";
      const require = createRequire(import.meta.url);
      require.cache[${JSON.stringify(path)}] = { exports: { version: () => "0.0.1" }, loaded: true, children: [] };
      const { Kimi } = await import(${JSON.stringify(new URL(`file://${join(root, "dist", "index.js")}`).href)});
      new Kimi();
      console.log("loaded");`;
    assert.equal(run("node", ["--input-type=module", "-e", script], home.cwd, home.env()).trim(), "loaded");
    const copies = join(home.home, ".pi", NAME, "native");
    assert.match(readdirSync(copies).join(), new RegExp(`^${VERSION}-[0-9a-f]{16}$`));
  });

  test("copies of older versions → removed", () => {
    const old = join(home.home, ".pi", NAME, "native", "0.0.1-0123456789abcdef");
    mkdirSync(old, { recursive: true });
    const root = unpack(join(home.path, "node_modules", NAME));
    platformPackage(join(home.path, "node_modules"));
    const file = join(root, "dist", "client.js");
    writeFileSync(file, readFileSync(file, "utf8").replace(`version:"${VERSION}"`, 'version:"9.9.9"'));
    assert.match(load(root), new RegExp(`is version ${VERSION.replaceAll(".", "\\.")}, but 9\\.9\\.9 is needed`));
    assert.ok(!existsSync(old));
  });
});

describe("loader: addon not found", () => {
  test("package missing → the error names the platform, the places and the repair", () => {
    const text = load(unpack(join(home.path, "node_modules", NAME)));
    assert.match(text, /^addon_missing: /);
    assert.match(text, new RegExp(`native part for ${PLATFORM} \\(package ${PLATFORM_PACKAGE}\\)`));
    assert.match(text, /pi remove npm:.*pi install npm:.*--omit=optional/s);
    assert.match(text, new RegExp(`Tried: .*${PLATFORM_PACKAGE}/kimi-code\\.node: Cannot find module`));
  });

  test("damaged file → the error has the system's message", () => {
    const modules = join(home.path, "node_modules");
    platformPackage(modules, (file) => writeFileSync(file, "not a library"));
    assert.match(
      load(unpack(join(modules, NAME))),
      /kimi-code\.node: .*(invalid ELF header|file too short|not a valid)/,
    );
  });

  test("platform without a package → the error says so", () => {
    const root = unpack(join(home.path, "node_modules", NAME));
    const script = `
      Object.defineProperty(process, "platform", { value: "freebsd" });
      const { Kimi } = await import(${JSON.stringify(new URL(`file://${join(root, "dist", "index.js")}`).href)});
      try { new Kimi(); } catch (error) { console.log(error.message); }`;
    const text = run("node", ["--input-type=module", "-e", script], home.cwd, home.env());
    assert.match(text, /native part for freebsd-x64.*no prebuilt package for this platform.*npm run build/);
  });

  test("KIMI_CODE_NATIVE → tried first, falls back to the package", () => {
    const modules = join(home.path, "node_modules");
    platformPackage(modules);
    const root = unpack(join(modules, NAME));
    const script = `
      import { Kimi } from ${JSON.stringify(new URL(`file://${join(root, "dist", "index.js")}`).href)};
      new Kimi(); console.log("loaded");`;
    const env = { ...home.env(), KIMI_CODE_NATIVE: join(home.path, "nothing.node") };
    assert.equal(run("node", ["--input-type=module", "-e", script], home.cwd, env).trim(), "loaded");
  });
});
