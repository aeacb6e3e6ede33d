/** Name of the archive that needs no registry, and of the folder in it. */
export const ALL_IN_ONE: string;
/** Members of package.json that replace our own. */
interface Overrides {
  name?: string;
  version?: string;
  release?: Release;
  gitHead?: string;
}
export interface Release {
  platformScope?: string;
  repository?: string;
  author?: string;
}
/** Returns our package.json, with the commit as `gitHead`. */
export function readRoot(overrides?: Overrides): { name: string; version: string; release: Release; gitHead?: string };
/** Platforms whose addon has been built or downloaded into npm/. */
export function builtPlatforms(): string[];
/** Packs the root package into `out` and returns the path of its tarball. */
export function packRoot(out: string, overrides?: Overrides): string;
/** Packs root package and built addons into one archive that needs no registry; returns its path. */
export function packAllInOne(out: string, overrides?: Overrides): string;
/** Packs the package of a platform into `out` and returns the path of its tarball. */
export function packPlatform(out: string, platform: string, options?: Overrides & { addon?: string }): string;
