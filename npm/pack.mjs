// Packs what is published: the root package, one package per platform whose addon lies in npm/<platform>/, and with
// `--all-in-one` the package that needs no registry. `--complete` fails if a platform is missing. Prints the paths of the
// tarballs.
//
// The manifests are generated and not committed: committed `optionalDependencies` would name unpublished versions, which the next
// `npm install` drops from the lock file, and then `npm ci` fails.
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { buildJavaScript } from "./build.mjs";
import { PLATFORMS, platformManifest, publishedManifest } from "./platforms.mjs";

const ROOT = join(import.meta.dirname, "..");
const readRoot = () => JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
const addonOf = (platform) => join(ROOT, "npm", platform, "kimi-code.node");

/** Platforms whose addon has been built or downloaded into npm/. */
export function builtPlatforms() {
  return Object.keys(PLATFORMS).filter((platform) => existsSync(addonOf(platform)));
}

/** Packs the root package into `out`. `version` replaces our own (tests of updates need one). */
export function packRoot(out, { version, allInOne = false } = {}) {
  const root = { ...readRoot(), ...(version ? { version } : {}) };
  const manifest = publishedManifest(root);
  if (allInOne) {
    delete manifest.optionalDependencies;
    manifest.files = [...manifest.files, "npm/*/kimi-code.node"];
  }
  return pack(out, manifest, allInOne ? "-all-in-one" : "", (stage) => {
    buildJavaScript(join(stage, "dist")); // not what an earlier build left in dist/
    for (const entry of root.files.filter((entry) => entry !== "dist")) {
      cpSync(join(ROOT, entry), join(stage, entry), { recursive: true });
    }
    for (const platform of allInOne ? builtPlatforms() : []) {
      cpSync(addonOf(platform), join(stage, "npm", platform, "kimi-code.node"));
    }
  });
}

/** Packs the package of a platform into `out`; `version` and `addon` replace our own (tests of updates need others). */
export function packPlatform(out, platform, { version, addon = addonOf(platform) } = {}) {
  const root = { ...readRoot(), ...(version ? { version } : {}) };
  return pack(out, platformManifest(platform, root), "", (stage) => {
    cpSync(addon, join(stage, "kimi-code.node"));
    cpSync(join(ROOT, "LICENSE"), join(stage, "LICENSE"));
    const about = `Native part of [${root.name}](https://www.npmjs.com/package/${root.name}) for ${platform}. Install that one.\n`;
    writeFileSync(join(stage, "README.md"), about);
  });
}

function pack(out, manifest, suffix, fill) {
  mkdirSync(out, { recursive: true });
  const stage = mkdtempSync(join(tmpdir(), "kimi-pack-"));
  try {
    fill(stage);
    writeFileSync(join(stage, "package.json"), `${JSON.stringify(manifest, null, 2)}\n`);
    const shell = process.platform === "win32";
    const packed = spawnSync("npm", ["pack", "--json", "--ignore-scripts"], { cwd: stage, encoding: "utf8", shell });
    if (packed.status !== 0) throw new Error(`npm pack failed for ${manifest.name}: ${packed.stderr}`);
    const file = `${manifest.name}-${manifest.version}.tgz`;
    const target = join(resolve(out), file.replace(/\.tgz$/, `${suffix}.tgz`));
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
  if (values["all-in-one"]) console.log(packRoot(values.out, { allInOne: true }));
}
