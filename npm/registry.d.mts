/** Returns the package.json inside a tarball. */
export function manifestIn(tarball: string): { name: string; version: string; [member: string]: unknown };
