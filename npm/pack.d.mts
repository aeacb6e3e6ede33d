/** Platforms whose addon has been built or downloaded into npm/. */
export function builtPlatforms(): string[];
/** Packs the root package into `out` and returns the tarball's path. */
export function packRoot(out: string, options?: { version?: string; allInOne?: boolean }): string;
/** Packs the package of a platform into `out` and returns the tarball's path. */
export function packPlatform(out: string, platform: string, options?: { version?: string; addon?: string }): string;
