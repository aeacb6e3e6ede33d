/** Name of a platform's package. */
export function packageName(platform: string, root: { name: string; release?: { platformScope?: string } }): string;
/** package.json of a platform's package. */
export function platformManifest(
  platform: string,
  root: { name: string; version: string; [member: string]: unknown },
): Record<string, unknown>;
/** package.json of the root package as it is published. */
export function publishedManifest(root: object): Record<string, unknown>;
