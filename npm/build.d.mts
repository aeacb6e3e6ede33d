/** Builds the addon into npm/<platform>/. */
export function buildAddon(release: boolean, options?: { platform?: string; zig?: boolean }): void;
/** The published entries: name → source. */
export const ENTRIES: Record<string, string>;
/** Programs of the package: name → source. */
export const PROGRAMS: Record<string, string>;
/** Compiles the published entries into `directory`, dist/ if not given. */
export function buildJavaScript(directory?: string, root?: object): void;
