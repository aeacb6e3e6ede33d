// Compares a published release with this checkout: `npm run verify-release <version> [-- --registry URL]`.
//
// Check out the release's commit and build it as docs/releasing.md says. Every file of the root package is compared, and of each
// platform whose addon lies in npm/<platform>/; other platforms are listed as not built.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { gunzipSync } from "node:zlib";
import { packageName } from "./manifests.mjs";
import { builtPlatforms, packPlatform, packRoot, readRoot } from "./pack.mjs";
import { PLATFORMS } from "./platforms.mjs";
import { get, main, NPM, packument, ReleaseError } from "./registry.mjs";
import { filesIn } from "./tar.mjs";

/** Returns a published version's manifest. */
async function publishedVersion(registry, name, version) {
  const found = (await packument(registry, name))?.versions?.[version];
  if (found === undefined) throw new ReleaseError(`${name}@${version} is not published at ${registry}.`);
  return found;
}

/** Returns the files that differ between a published version and a tarball of this checkout. */
async function differences({ dist }, tarball) {
  const response = await get(dist.tarball);
  if (!response.ok) throw new ReleaseError(`${dist.tarball} answered ${response.status}.`);
  const theirs = filesIn(gunzipSync(Buffer.from(await response.arrayBuffer())));
  const ours = filesIn(gunzipSync(readFileSync(tarball)));
  const all = [...new Set([...ours.keys(), ...theirs.keys()])].sort();
  return all.filter((file) => !ours.has(file) || !theirs.get(file)?.equals(ours.get(file)));
}

async function verify(version, registry) {
  const root = readRoot();
  if (version !== root.version)
    throw new ReleaseError(`This checkout is version ${root.version}, not ${version}: check out v${version}.`);
  const main = await publishedVersion(registry, root.name, version);
  if (main.gitHead !== root.gitHead) {
    throw new ReleaseError(
      `${root.name}@${version} was published from commit ${main.gitHead}: check that out and build it.`,
    );
  }
  const out = mkdtempSync(join(tmpdir(), "kimi-verify-"));
  let different = 0;
  const report = async (name, published, tarball) => {
    const files = await differences(published, tarball);
    different += files.length;
    console.log(`${name}: ${files.length === 0 ? "the same" : `differs in ${files.join(", ")}`}`);
  };
  try {
    await report(root.name, main, packRoot(out));
    const built = builtPlatforms();
    for (const platform of Object.keys(PLATFORMS)) {
      const name = packageName(platform, root);
      if (!built.includes(platform)) console.log(`${name}: not built here`);
      else await report(name, await publishedVersion(registry, name, version), packPlatform(out, platform));
    }
  } finally {
    rmSync(out, { recursive: true });
  }
  if (different > 0) throw new ReleaseError(`The release differs from this checkout in ${different} files.`);
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { registry: { type: "string", default: process.env.npm_config_registry ?? NPM } },
});
await main(() => verify(positionals[0] ?? readRoot().version, values.registry));
