/** Builds the addon into npm/<platform>/. */
export function buildAddon(release: boolean): void;
/** Compiles index.ts and extension/ to dist/. */
export function buildJavaScript(): void;
