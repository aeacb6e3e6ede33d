// The platforms that get a package of their own: what npm filters by, and the Rust target it is built for.

const linux = (cpu, libc, target) => ({ os: ["linux"], cpu: [cpu], libc: [libc], target });
const other = (os, cpu, target) => ({ os: [os], cpu: [cpu], target });

export const PLATFORMS = {
  "linux-x64-gnu": linux("x64", "glibc", "x86_64-unknown-linux-gnu"),
  "linux-x64-musl": linux("x64", "musl", "x86_64-unknown-linux-musl"),
  "linux-arm64-gnu": linux("arm64", "glibc", "aarch64-unknown-linux-gnu"),
  "linux-arm64-musl": linux("arm64", "musl", "aarch64-unknown-linux-musl"),
  "darwin-x64": other("darwin", "x64", "x86_64-apple-darwin"),
  "darwin-arm64": other("darwin", "arm64", "aarch64-apple-darwin"),
  "win32-x64": other("win32", "x64", "x86_64-pc-windows-msvc"),
  "win32-arm64": other("win32", "arm64", "aarch64-pc-windows-msvc"),
  "android-arm64": other("android", "arm64", "aarch64-linux-android"),
};

/** Name of a platform's package. */
export function packageName(platform) {
  return `pi-provider-kimi-code-${platform}`;
}

/** package.json of a platform's package. No `exports`: the loader asks for the file by its path. */
export function platformManifest(platform, root) {
  const { os, cpu, libc } = PLATFORMS[platform];
  return {
    name: packageName(platform),
    version: root.version,
    description: `Native part of pi-provider-kimi-code for ${platform}`,
    license: root.license,
    ...(root.repository ? { repository: root.repository } : {}),
    files: ["kimi-code.node"],
    os,
    cpu,
    ...(libc ? { libc } : {}),
    main: "kimi-code.node",
    engines: root.engines,
  };
}

/** What Pi brings along; a plain program has no need of it. */
const PEERS = ["@earendil-works/pi-ai", "@earendil-works/pi-coding-agent", "@earendil-works/pi-tui"];

/**
 * package.json of the root package as it is published: with every platform of this very version, without what only we need.
 *
 * The peers are named here only, because npm installs peers that are development dependencies as well even where Pi, installing from
 * Git, asks it to omit those: a second Pi inside Pi.
 */
export function publishedManifest(root) {
  const { devDependencies: _dev, scripts: _scripts, ...kept } = root;
  const platforms = Object.keys(PLATFORMS).map((platform) => [packageName(platform), root.version]);
  return {
    ...kept,
    optionalDependencies: Object.fromEntries(platforms),
    peerDependencies: Object.fromEntries(PEERS.map((name) => [name, "*"])),
    peerDependenciesMeta: Object.fromEntries(PEERS.map((name) => [name, { optional: true }])),
  };
}
