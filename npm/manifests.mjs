// The package.json of every published package: what differs from the one in the repository, and the names of the platforms' packages.
import { PLATFORMS } from "./platforms.mjs";

/**
 * Returns the name of a platform's package: `<scope>/<platform>`. Without a scope in package.json it is `<name>-<platform>`.
 *
 * `root` is our package.json. Its `release` block is the one place for the owner's names and addresses.
 */
export function packageName(platform, root) {
  const { platformScope } = root.release ?? {};
  return platformScope ? `${platformScope}/${platform}` : `${root.name}-${platform}`;
}

/** Returns the members of package.json that name the owner; empty as long as the owner has set nothing. */
function ownership({ release: { repository, author } = {} }) {
  return {
    ...(author ? { author } : {}),
    ...(repository
      ? {
          repository: { type: "git", url: `git+${repository}.git` },
          homepage: `${repository}#readme`,
          bugs: { url: `${repository}/issues` },
        }
      : {}),
  };
}

/** Returns package.json of a platform's package. It has no `exports`: the loader asks for the file by its path. */
export function platformManifest(platform, root) {
  const { os, cpu, libc } = PLATFORMS[platform];
  return {
    name: packageName(platform, root),
    version: root.version,
    ...(root.gitHead ? { gitHead: root.gitHead } : {}),
    description: `Native part of ${root.name} for ${platform}`,
    license: root.license,
    ...ownership(root),
    files: ["kimi-code.node", "THIRD-PARTY-LICENSES.txt", "sbom.cdx.json"],
    os,
    cpu,
    ...(libc ? { libc } : {}),
    main: "kimi-code.node",
    engines: root.engines,
  };
}

/** Provided by Pi and by programs that use the AI SDK; other programs do not need them. */
const PEERS = {
  "@ai-sdk/provider": "^4.0.0",
  "@earendil-works/pi-ai": "*",
  "@earendil-works/pi-coding-agent": "*",
  "@earendil-works/pi-tui": "*",
};

/**
 * Returns package.json of the root package as published: every platform in exactly this version, no development fields.
 *
 * The peers are added only here. npm installs peers that are also development dependencies even where Pi, installing from Git,
 * omits those; that would put a second Pi inside Pi.
 */
export function publishedManifest(root) {
  const { devDependencies: _dev, scripts: _scripts, release: _release, ...kept } = root;
  const platforms = Object.keys(PLATFORMS).map((platform) => [packageName(platform, root), root.version]);
  return {
    ...kept,
    ...ownership(root),
    optionalDependencies: Object.fromEntries(platforms),
    // A checkout has the sources instead, so that Pi can install it from Git without a build of the JavaScript.
    pi: { extensions: ["./dist/pi.ts"] },
    peerDependencies: PEERS,
    peerDependenciesMeta: Object.fromEntries(Object.keys(PEERS).map((name) => [name, { optional: true }])),
  };
}
