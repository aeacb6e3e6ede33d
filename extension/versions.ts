/** The oldest versions of Pi and Node that work, and the comparison of versions. */

/** Oldest version of Pi: it takes a provider object. */
export const OLDEST_PI = [0, 81] as const;

export const OLDEST_NODE = [20, 3] as const;

/** Returns whether a version is this one or newer. An unknown version counts as new. */
export function isAtLeast(version: string | undefined, major: number, minor: number): boolean {
  const [ours = Infinity, theirs = 0] = (version ?? "")
    .split(".")
    .map((part) => (part === "" ? Infinity : Number(part)));
  return ours > major || (ours === major && theirs >= minor);
}
