// Reserves the names on npm before the first release: `node npm/first-release.mjs [--dry-run] [--registry URL]`.
//
// npm lets a workflow publish only packages that exist. This publishes version 0.0.0 of each missing one, deprecated so that
// npm warns users about it, and prints where to allow the release workflow. It needs `npm login`; sign out afterwards.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { packageName } from "./manifests.mjs";
import { readRoot } from "./pack.mjs";
import { PLATFORMS } from "./platforms.mjs";
import { deprecate, main, NPM, packument, publish, ReleaseError, requireLogin, waitUntilListed } from "./registry.mjs";

const NOTE = "Reserves the name; the first release follows.";

async function reserve(registry, dryRun) {
  const root = readRoot();
  if (!root.release.repository)
    throw new ReleaseError('Set "release.repository" in package.json first: it has to allow the workflow.');
  if (!dryRun) await requireLogin(registry);
  const names = [...Object.keys(PLATFORMS).map((platform) => packageName(platform, root)), root.name];
  for (const name of names) {
    if ((await packument(registry, name)) !== undefined) console.log(`${name}: exists`);
    else if (dryRun) console.log(`${name}: would be reserved`);
    else {
      await publishPlaceholder(registry, name, root);
      console.log(`${name}: reserved`);
    }
  }
  console.log(
    `\nNow allow the release workflow for each package at ${registry === NPM ? "https://www.npmjs.com/package/<name>/access" : registry}:\n` +
      `trusted publisher GitHub Actions, repository ${root.release.repository}, workflow release.yml, environment npm.`,
  );
}

async function publishPlaceholder(registry, name, root) {
  const folder = mkdtempSync(join(tmpdir(), "kimi-reserve-"));
  try {
    const manifest = { name, version: "0.0.0", description: NOTE, license: root.license };
    writeFileSync(join(folder, "package.json"), JSON.stringify(manifest));
    writeFileSync(join(folder, "README.md"), `${NOTE}\n`);
    await publish(registry, manifest, folder, []);
    await waitUntilListed(registry, manifest);
    await deprecate(registry, manifest, NOTE);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

if (process.argv[1] === import.meta.filename) {
  const { values } = parseArgs({
    options: {
      registry: { type: "string", default: process.env.npm_config_registry ?? NPM },
      "dry-run": { type: "boolean", default: false },
    },
  });
  await main(() => reserve(values.registry, values["dry-run"]));
}
