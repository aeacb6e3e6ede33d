/** A release from its tag to `pi install`: the real scripts and npm client against a registry on the loopback, with failures at every step. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { packPlatform, packRoot } from "../../npm/pack.mjs";
import { packageName, platformManifest } from "../../npm/manifests.mjs";
import { PLATFORMS } from "../../npm/platforms.mjs";
import { Installation, NAME, withInstallation } from "../support/installation.ts";
import { manifest, PLATFORM, run } from "../support/packages.ts";
import { ROOT } from "../support/pi.ts";
import { fetchedTool } from "../support/tools.ts";

const OWNER = { platformScope: "@owner", repository: "https://github.com/owner/kimi", author: "Owner" };
const { version: VERSION } = manifest();
const PLATFORM_NAMES = Object.keys(PLATFORMS).map((platform) => packageName(platform, { name: NAME, release: OWNER }));
const ALL_NAMES = [...PLATFORM_NAMES, NAME];

/** A checkout whose owner has set everything, at a commit of its own. */
let checkout: string;
/** The tarballs of its release. */
let packages: string;
let machine: Installation;

withInstallation((_simulator, given) => (machine = given));

before(() => {
  const work = mkdtempSync(join(tmpdir(), "kimi-release-"));
  checkout = join(work, "checkout");
  packages = join(work, "packages");
  for (const entry of ["npm", "extension", "package.json", "Cargo.toml", "LICENSE"]) {
    cpSync(join(ROOT, entry), join(checkout, entry), { recursive: true, filter: (path) => !path.endsWith(".node") });
  }
  symlinkSync(join(ROOT, "node_modules"), join(checkout, "node_modules"), "junction");
  const file = join(checkout, "package.json");
  writeFileSync(file, JSON.stringify({ ...(JSON.parse(readFileSync(file, "utf8")) as object), release: OWNER }));
  const gitHead = commit("First");
  packRoot(packages, { release: OWNER, gitHead });
  packPlatform(packages, PLATFORM, { release: OWNER, gitHead });
  for (const platform of Object.keys(PLATFORMS).filter((name) => name !== PLATFORM)) packStub(platform, gitHead);
});
after(() => rmSync(join(checkout, ".."), { recursive: true }));

function commit(message: string): string {
  const git = (...args: string[]): string =>
    run("git", ["-c", "user.name=T", "-c", "user.email=t@localhost", ...args], checkout);
  git("init", "--quiet");
  git("add", "package.json");
  git("commit", "--quiet", "--allow-empty", "--message", message);
  return git("rev-parse", "HEAD").trim();
}

/** Packs a platform that cannot be built here, with a stand-in for its addon. */
function packStub(platform: string, gitHead: string): void {
  const folder = mkdtempSync(join(checkout, "..", "stub-"));
  writeFileSync(
    join(folder, "package.json"),
    JSON.stringify(platformManifest(platform, { ...manifest(), release: OWNER, gitHead })),
  );
  writeFileSync(join(folder, "kimi-code.node"), `stand-in for ${platform}`);
  run("npm", ["pack", "--pack-destination", packages], folder);
}

/** Runs a script of the checkout, signed in unless told otherwise. */
async function script(
  name: string,
  args: string[],
  { signedIn = true, cwd = checkout } = {},
): Promise<{ code: number; output: string }> {
  const { registry } = machine;
  const child = spawn(process.execPath, [join(cwd, "npm", name), ...args, "--registry", registry.url], {
    cwd,
    // Packing this checkout needs Cargo, which is found through the real home.
    env: cwd === ROOT ? process.env : { ...machine.env(machine.variables()), ...(signedIn ? registry.login() : {}) },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (text: string) => (output += text));
  const code = await new Promise<number>((resolve) => child.on("close", resolve));
  return { code, output };
}

const publish = (args: string[] = [], options = {}): ReturnType<typeof script> =>
  script("publish.mjs", [packages, "--tag", `v${VERSION}`, ...args], options);

const published = (): string[] => ALL_NAMES.filter((name) => machine.registry.versions(name).includes(VERSION));

test("release: tag to pi install, Pi 0.87.1 and 1.5.2 in fresh homes → installs and answers", async () => {
  const { code, output } = await publish();
  assert.equal(code, 0, output);
  assert.deepEqual(published(), ALL_NAMES);
  await machine.pi("install", `npm:${NAME}`);
  await machine.answers();

  const pi = "@earendil-works/pi-coding-agent";
  const newer = new Installation(machine.simulator, machine.registry);
  newer.cli = fetchedTool(`${pi}@1.5.2`, `${pi}/dist/bundle/cli.js`);
  try {
    await newer.pi("install", `npm:${NAME}`);
    await newer.answers();
  } finally {
    newer.remove();
  }
});

test("release: failure at every step → nothing to install, and the next run continues", async () => {
  for (const [step, name] of ALL_NAMES.entries()) {
    machine.registry.fault = (asked) => (asked === name ? { status: 500, stored: false } : undefined);
    const { code, output } = await publish();
    assert.equal(code, 1, output);
    assert.match(output, new RegExp(`${name}@${VERSION} could not be published.*For users nothing has changed`, "s"));
    assert.deepEqual(published(), ALL_NAMES.slice(0, step));
  }
  const failed = await machine.run("install", `npm:${NAME}`);
  assert.notEqual(failed.code, 0, "the root package is still missing");

  // The registry stores the last package although it answers with an error.
  machine.registry.fault = () => ({ status: 500, stored: true });
  const last = await publish();
  assert.equal(last.code, 0, last.output);
  assert.deepEqual(published(), ALL_NAMES);
  await machine.pi("install", `npm:${NAME}`);
  await machine.answers();

  machine.registry.fault = () => ({ status: 500, stored: false });
  const again = await publish();
  assert.equal(again.code, 0, again.output);
  assert.equal(again.output.match(/already published/g)?.length, ALL_NAMES.length);
});

describe("release: refused before anything is published", () => {
  const refused = async (expected: RegExp, args: string[] = [], options = {}): Promise<void> => {
    const { code, output } = await publish(args, options);
    assert.equal(code, 1, output);
    assert.match(output, expected);
    assert.deepEqual(published(), []);
  };

  test("dry run → publishes nothing and says what it would publish", async () => {
    const { code, output } = await publish(["--dry-run"], { signedIn: false });
    assert.equal(code, 0, output);
    assert.equal(output.match(/would be published/g)?.length, ALL_NAMES.length);
    assert.deepEqual(published(), []);
  });

  test("no token → names the ways to sign in", () => refused(/Not signed in to .*npm login/, [], { signedIn: false }));

  test("tag of another version → names both", () =>
    refused(new RegExp(`The tag is v9\\.9\\.9, but package.json is version ${VERSION}`), ["--tag", "v9.9.9"]));

  test("owner not set → names the members", async () => {
    const { code, output } = await script("publish.mjs", [packages], { cwd: ROOT });
    assert.equal(code, 1);
    assert.match(output, /set "release\.repository" and "release\.author" in package\.json/);
  });

  test("platform that failed to build → names its package", async () => {
    const folder = join(machine.tmp, "incomplete");
    mkdirSync(folder);
    cpSync(packages, folder, { recursive: true, filter: (path) => !path.includes("darwin-arm64") });
    const { code, output } = await script("publish.mjs", [folder]);
    assert.equal(code, 1);
    assert.match(output, /has no tarball of @owner\/darwin-arm64\./);
    assert.deepEqual(published(), []);
  });

  test("version published from another commit → names it", async () => {
    const other = join(machine.tmp, "other");
    machine.registry.publish(packRoot(other, { release: OWNER, gitHead: "0123456" }));
    const { code, output } = await publish();
    assert.equal(code, 1);
    assert.match(output, new RegExp(`${NAME}@${VERSION} was already published, from commit 0123456.*raise it`, "s"));
    assert.deepEqual(published(), [NAME]);
  });

  test("platform published from another commit → names it", async () => {
    const platform = PLATFORM_NAMES[0] as string;
    const other = join(machine.tmp, "other");
    const addon = join(machine.tmp, "another.node");
    writeFileSync(addon, "another build");
    const [first = ""] = Object.keys(PLATFORMS);
    machine.registry.publish(packPlatform(other, first, { release: OWNER, gitHead: "0123456", addon }));
    const { code, output } = await publish();
    assert.equal(code, 1);
    assert.match(output, new RegExp(`${platform}@${VERSION} was already published, from commit 0123456`));
    assert.deepEqual(published(), [platform]);
  });

  test("tarball of another version → names it", async () => {
    const folder = join(machine.tmp, "mixed");
    cpSync(packages, folder, { recursive: true, filter: (path) => !/code-[\d.]+\.tgz$/.test(path) });
    packRoot(folder, { release: OWNER, version: "9.9.9" });
    const { code, output } = await script("publish.mjs", [folder]);
    assert.equal(code, 1);
    assert.match(output, new RegExp(`The tarball of ${NAME} is version 9\\.9\\.9\\.`));
    assert.deepEqual(published(), []);
  });

  test("Cargo.toml of another version → names both", async () => {
    const file = join(checkout, "Cargo.toml");
    const text = readFileSync(file, "utf8");
    writeFileSync(file, text.replace(/^version = .*/m, 'version = "9.9.9"'));
    try {
      await refused(new RegExp(`package\\.json is version ${VERSION}, Cargo\\.toml is 9\\.9\\.9`));
    } finally {
      writeFileSync(file, text);
    }
  });

  test("registry answers 500 when asked what is published → says so", () => {
    machine.registry.readFault = (path) => (path === ALL_NAMES[4] ? 500 : undefined);
    return refused(new RegExp(`answered 500 when asked for ${ALL_NAMES[4]}`));
  });

  test("registry out of reach → says so", async () => {
    await machine.registry.close();
    await refused(/The registry cannot be reached/);
  });
});

test("release: registry answers 500 while its list is awaited → waits, then publishes the root package", async () => {
  let failures = 0;
  machine.registry.readFault = (path) => {
    const waiting = PLATFORM_NAMES.every((name) => machine.registry.versions(name).includes(VERSION));
    if (!waiting || path !== PLATFORM_NAMES[0] || failures === 2) return undefined;
    failures += 1;
    return 500;
  };
  const { code, output } = await publish();
  assert.equal(code, 0, output);
  assert.equal(failures, 2);
  assert.deepEqual(published(), ALL_NAMES);
});

test("first release: missing names → reserved, and a second run finds them", async () => {
  const { code, output } = await script("first-release.mjs", []);
  assert.equal(code, 0, output);
  assert.equal(output.match(/: reserved/g)?.length, ALL_NAMES.length);
  assert.match(
    output,
    /trusted publisher GitHub Actions, repository https:\/\/github\.com\/owner\/kimi, workflow release\.yml/,
  );
  assert.match((await script("first-release.mjs", [])).output, new RegExp(`${NAME}: exists`));
});

describe("verify-release", () => {
  test("same sources, another addon → only the addon differs", async () => {
    const name = packageName(PLATFORM, manifest());
    const addon = join(machine.tmp, "another.node");
    writeFileSync(addon, "another build");
    machine.registry.publish(packRoot(machine.tmp));
    machine.registry.publish(packPlatform(machine.tmp, PLATFORM, { addon }));
    const { code, output } = await script("verify-release.mjs", [VERSION], { cwd: ROOT });
    assert.equal(code, 1);
    assert.match(output, new RegExp(`^${NAME}: the same$`, "m"));
    assert.match(output, new RegExp(`^${name}: differs in kimi-code\\.node$`, "m"));
    assert.match(output, /: not built here$/m);
  });

  test("version that is not published → says so", async () => {
    const { code, output } = await script("verify-release.mjs", [VERSION], { cwd: ROOT });
    assert.equal(code, 1);
    assert.match(output, new RegExp(`${NAME}@${VERSION} is not published`));
  });
});
