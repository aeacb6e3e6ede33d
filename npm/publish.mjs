// Publishes a release: `node npm/publish.mjs <folder> [--tag v1.0.0] [--dry-run] [--check] [--provenance] [--registry URL]`. The
// folder holds the tarballs of `node npm/pack.mjs --complete`. `--check` stops after the checks that need neither.
//
// The root package is what users install, so it comes last: until then nothing has changed for them. Run it again after a failure;
// packages that were already published from the same commit are skipped.
import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { packageName } from "./manifests.mjs";
import { readRoot } from "./pack.mjs";
import { PLATFORMS } from "./platforms.mjs";
import { main, manifestIn, NPM, packument, publish, ReleaseError, requireLogin, waitUntilListed } from "./registry.mjs";

/** Fails if package.json lacks what only the owner knows. */
function requireOwner({ release }, dryRun) {
  const missing = ["repository", "author"].filter((name) => !release?.[name]);
  if (missing.length > 0 && dryRun)
    console.log(`Still to be set in package.json: release.${missing.join(", release.")}.`);
  else if (missing.length > 0) {
    throw new ReleaseError(
      `Nothing was published: set ${missing.map((name) => `"release.${name}"`).join(" and ")} in package.json. ` +
        "The repository is its public address, such as https://github.com/you/pi-provider-kimi-code; npm's provenance names it.",
    );
  }
}

/** Fails if tag, package.json and Cargo.toml do not name the same version. */
function requireSameVersion({ version }, tag) {
  const cargo = /^version = "([^"]+)"/m.exec(readFileSync(join(import.meta.dirname, "..", "Cargo.toml"), "utf8"))?.[1];
  if (cargo !== version) throw new ReleaseError(`package.json is version ${version}, Cargo.toml is ${cargo}.`);
  if (tag !== undefined && tag !== `v${version}`)
    throw new ReleaseError(`The tag is ${tag}, but package.json is version ${version}.`);
}

/** Returns the tarballs of all packages in the order of their publication. */
function releaseOf(root, folder) {
  const found = new Map();
  for (const file of readdirSync(folder).filter((name) => name.endsWith(".tgz"))) {
    const tarball = join(resolve(folder), file);
    found.set(manifestIn(tarball).name, tarball);
  }
  const names = [...Object.keys(PLATFORMS).map((platform) => packageName(platform, root)), root.name];
  const missing = names.filter((name) => !found.has(name));
  if (missing.length > 0)
    throw new ReleaseError(`Nothing was published: ${folder} has no tarball of ${missing.join(", ")}.`);
  return names.map((name) => ({ name, tarball: found.get(name), manifest: manifestIn(found.get(name)) }));
}

/** Returns whether a version is published already; fails if that was from another commit. */
async function isPublished(registry, { name, version, gitHead }) {
  const published = (await packument(registry, name))?.versions?.[version];
  if (published === undefined) return false;
  if (published.gitHead === gitHead) return true;
  throw new ReleaseError(
    `${name}@${version} was already published, from commit ${published.gitHead ?? "unknown"}; this is ${gitHead ?? "unknown"}. ` +
      "npm accepts a version once: raise it in package.json and Cargo.toml.",
  );
}

async function release(folder, { registry, tag, check, dryRun, provenance }) {
  const root = readRoot();
  requireOwner(root, dryRun);
  requireSameVersion(root, tag);
  if (check) return;
  const packages = releaseOf(root, folder);
  for (const { name, manifest } of packages) {
    if (manifest.version !== root.version)
      throw new ReleaseError(`The tarball of ${name} is version ${manifest.version}.`);
  }
  // Before anything is published, so that a conflict in the last package does not leave the others behind.
  const done = new Map();
  for (const { name, manifest } of packages) done.set(name, await isPublished(registry, manifest));
  if (!dryRun) await requireLogin(registry);

  const options = [
    ...["--tag", root.version.includes("-") ? "next" : "latest"],
    ...(provenance ? ["--provenance"] : []),
    ...(dryRun ? ["--dry-run"] : []),
  ];
  for (const { name, tarball, manifest } of packages) {
    const label = `${name}@${manifest.version}`;
    if (done.get(name)) {
      console.log(`${label}: already published`);
      continue;
    }
    if (name === root.name && !dryRun) {
      for (const one of packages) if (one.name !== name) await waitUntilListed(registry, one.manifest);
    }
    try {
      await publish(registry, manifest, tarball, options);
    } catch (error) {
      if (!(error instanceof ReleaseError)) throw error;
      throw new ReleaseError(
        `${error.message}\nFor users nothing has changed. Run the release again; it continues here.`,
      );
    }
    console.log(`${label}: ${dryRun ? "would be published" : "published"}`);
  }
  if (!dryRun) await waitUntilListed(registry, packages.at(-1).manifest);
}

if (process.argv[1] === import.meta.filename) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      registry: { type: "string", default: process.env.npm_config_registry ?? NPM },
      tag: { type: "string" },
      check: { type: "boolean", default: false },
      "dry-run": { type: "boolean", default: false },
      provenance: { type: "boolean", default: false },
    },
  });
  await main(() => release(positionals[0] ?? "packages", { ...values, dryRun: values["dry-run"] }));
}
