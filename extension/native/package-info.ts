/**
 * Name and version of this package, and where its addon comes from.
 *
 * Bundles have them compiled in (npm/build.mjs), because a bundled program has another package.json around it. The sources, which Pi
 * loads from a checkout, read the package.json that lies beside them.
 */
import { dirname, join } from "node:path";
import { fs } from "../node-fs.ts";

export interface PackageInfo {
  name: string;
  version: string;
  /** What the names of the platform packages begin with. A checkout has no such packages. */
  platformPrefix?: string | undefined;
}

declare const COMPILED_PACKAGE_INFO: PackageInfo | undefined;

/** Returns the directory of the nearest package.json. */
export function packageRoot(file: string): string | undefined {
  for (let directory = dirname(file); ; directory = dirname(directory)) {
    if (fs.existsSync(join(directory, "package.json"))) return directory;
    if (directory === dirname(directory)) return undefined;
  }
}

/** Returns what package.json in `root` says about `platform`, unless that is compiled in. */
export function packageInfo(root: string | undefined, platform: string): PackageInfo {
  if (typeof COMPILED_PACKAGE_INFO !== "undefined") return COMPILED_PACKAGE_INFO;
  const manifest = readManifest(root ?? "");
  // Published packages list those of the platforms; a checkout and the all-in-one archive have none.
  const listed = Object.keys(manifest.optionalDependencies ?? {}).find((name) => name.endsWith(platform));
  return { name: manifest.name, version: manifest.version, platformPrefix: listed?.slice(0, -platform.length) };
}

interface Manifest {
  name: string;
  version: string;
  optionalDependencies?: Record<string, string>;
}

/** Reads package.json in `root`. */
export function readManifest(root: string): Manifest {
  return JSON.parse(fs.readFileSync(join(root, "package.json"), "utf8")) as Manifest;
}
