/** Builds the addon into npm/<platform>/. */
export function buildAddon(release: boolean, options?: { platform?: string; zig?: boolean }): void;
/** Compiles index.ts and extension/ into `directory`, dist/ if not given. */
export function buildJavaScript(directory?: string): void;
