/** Tells which of our platforms this machine is, and which have a prebuilt package. */
import { fs } from "../node-fs.ts";

/** Platforms with a prebuilt package; npm/platforms.mjs describes them. */
export const PREBUILT: readonly string[] = [
  "linux-x64-gnu",
  "linux-x64-musl",
  "linux-arm64-gnu",
  "linux-arm64-musl",
  "darwin-x64",
  "darwin-arm64",
  "win32-x64",
  "win32-arm64",
  "android-arm64",
];

/** Returns the name of this machine's platform as in our package names, for example `linux-x64-gnu`. */
export function platformName(): string {
  const { platform, arch } = process;
  if (platform === "linux") return `linux-${arch}-${isMusl() ? "musl" : "gnu"}`;
  return `${platform}-${arch}`;
}

/** Returns whether this program uses musl. The start of the executable names its loader. */
function isMusl(): boolean {
  try {
    const head = programHead();
    if (head.includes("/ld-musl-")) return true;
    if (head.includes("/ld-linux")) return false;
    return isMuslByReport();
  } catch {
    return fs.existsSync(`/lib/ld-musl-${process.arch === "arm64" ? "aarch64" : "x86_64"}.so.1`);
  }
}

function programHead(): string {
  const file = fs.openSync(process.execPath, "r");
  try {
    const head = Buffer.alloc(4096);
    return head.toString("latin1", 0, fs.readSync(file, head));
  } finally {
    fs.closeSync(file);
  }
}

/** Asks Node, which takes some milliseconds. */
function isMuslByReport(): boolean {
  const report: typeof process.report & { excludeNetwork?: boolean } = process.report;
  // The network part of the report takes seconds if name resolution hangs.
  report.excludeNetwork = true;
  const { header } = report.getReport() as { header: { glibcVersionRuntime?: string } };
  return header.glibcVersionRuntime === undefined;
}
