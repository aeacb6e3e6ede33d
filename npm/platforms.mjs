// The platforms with a package of their own: npm's filters and the Rust target.

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

/** Oldest glibc that released Linux addons are linked for: CentOS 7 and later. */
export const GLIBC_FLOOR = "2.17";
