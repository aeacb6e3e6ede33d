// Packs what is published: the root package, one package per platform whose addon lies in npm/<platform>/, and with
// `--all-in-one` an archive that needs no registry. `--complete` fails if a platform is missing. Prints the paths of the files.
//
// The manifests are generated and not committed: committed `optionalDependencies` would name unpublished versions, which the next
// `npm install` drops from the lock file, and then `npm ci` fails.
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { gunzipSync, gzipSync } from "node:zlib";
import { buildJavaScript } from "./build.mjs";
import { platformManifest, publishedManifest } from "./manifests.mjs";
import { PLATFORMS } from "./platforms.mjs";
import { renameFolder } from "./tar.mjs";
import { billOfMaterials, licenseTexts, linkedCrates } from "./third-party.mjs";

const ROOT = join(import.meta.dirname, "..");
const addonOf = (platform) => join(ROOT, "npm", platform, "kimi-code.node");

/** Name of the archive that needs no registry, and of the folder in it. */
export const ALL_IN_ONE = "pi-provider-kimi-code";

/** Returns our package.json; `overrides` replaces members (tests of updates and of other names need that). */
export function readRoot(overrides = {}) {
  const root = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
  const commit = spawnSync("git", ["rev-parse", "HEAD"], { cwd: ROOT, encoding: "utf8" });
  return { ...root, ...(commit.status === 0 ? { gitHead: commit.stdout.trim() } : {}), ...overrides };
}

/** Platforms whose addon has been built or downloaded into npm/. */
export function builtPlatforms() {
  return Object.keys(PLATFORMS).filter((platform) => existsSync(addonOf(platform)));
}

/** Packs the root package into `out` and returns the path of its tarball. */
export function packRoot(out, overrides = {}) {
  const root = readRoot(overrides);
  return pack(out, publishedManifest(root), (stage) => fillRoot(stage, root));
}

/** Packs root package and built addons into one archive that Pi installs from its unpacked folder; returns its path. */
export function packAllInOne(out, overrides = {}) {
  const root = readRoot(overrides);
  const { optionalDependencies: _platforms, ...manifest } = publishedManifest(root);
  const tarball = pack(
    mkdtempSync(join(tmpdir(), "kimi-all-")),
    { ...manifest, files: [...manifest.files, "npm"] },
    (stage) => {
      fillRoot(stage, root);
      for (const platform of builtPlatforms()) fillPlatform(join(stage, "npm", platform), platform, root);
    },
  );
  mkdirSync(out, { recursive: true });
  const archive = join(resolve(out), `${ALL_IN_ONE}.tar.gz`);
  writeFileSync(archive, gzipSync(renameFolder(gunzipSync(readFileSync(tarball)), ALL_IN_ONE)));
  rmSync(join(tarball, ".."), { recursive: true });
  return archive;
}

/** Packs the package of a platform into `out` and returns the path of its tarball; `addon` replaces the built one. */
export function packPlatform(out, platform, { addon = addonOf(platform), ...overrides } = {}) {
  const root = readRoot(overrides);
  return pack(out, platformManifest(platform, root), (stage) => {
    fillPlatform(stage, platform, root, addon);
    cpSync(join(ROOT, "LICENSE"), join(stage, "LICENSE"));
    const about = `Native part of [${root.name}](https://www.npmjs.com/package/${root.name}) for ${platform}. Install that one.\n`;
    writeFileSync(join(stage, "README.md"), about);
  });
}

function fillRoot(stage, root) {
  buildJavaScript(join(stage, "dist"), root); // not what an earlier build left in dist/
  for (const entry of root.files.filter((entry) => entry !== "dist")) {
    cpSync(join(ROOT, entry), join(stage, entry), { recursive: true });
  }
}

/** Copies the addon, and writes licenses and bill of materials of what is linked into it. */
function fillPlatform(folder, platform, root, addon = addonOf(platform)) {
  mkdirSync(folder, { recursive: true });
  cpSync(addon, join(folder, "kimi-code.node"));
  const crates = linkedCrates(PLATFORMS[platform].target);
  writeFileSync(join(folder, "THIRD-PARTY-LICENSES.txt"), licenseTexts(crates));
  writeFileSync(join(folder, "sbom.cdx.json"), billOfMaterials(crates, root));
}

function pack(out, manifest, fill) {
  mkdirSync(out, { recursive: true });
  const stage = mkdtempSync(join(tmpdir(), "kimi-pack-"));
  try {
    fill(stage);
    writeFileSync(join(stage, "package.json"), `${JSON.stringify(manifest, null, 2)}\n`);
    const shell = process.platform === "win32";
    const packed = spawnSync("npm", ["pack", "--json", "--ignore-scripts"], { cwd: stage, encoding: "utf8", shell });
    if (packed.status !== 0) throw new Error(`npm pack failed for ${manifest.name}: ${packed.stderr}`);
    const file = `${manifest.name.replace("@", "").replace("/", "-")}-${manifest.version}.tgz`;
    const target = join(resolve(out), file);
    // Renamed into place, because another process may be packing or reading the same file.
    cpSync(join(stage, file), `${target}.${process.pid}`);
    renameSync(`${target}.${process.pid}`, target);
    return target;
  } finally {
    rmSync(stage, { recursive: true, force: true });
  }
}

if (process.argv[1] === import.meta.filename) {
  const { values } = parseArgs({
    options: {
      out: { type: "string", default: ".cache/packages" },
      complete: { type: "boolean", default: false },
      "all-in-one": { type: "boolean", default: false },
    },
  });
  const platforms = builtPlatforms();
  const missing = Object.keys(PLATFORMS).filter((platform) => !platforms.includes(platform));
  if (values.complete && missing.length > 0) {
    console.error(`There is no addon for ${missing.join(", ")} in npm/.`);
    process.exit(1);
  }
  for (const platform of platforms) console.log(packPlatform(values.out, platform));
  console.log(packRoot(values.out));
  if (values["all-in-one"]) console.log(packAllInOne(values.out));
}
