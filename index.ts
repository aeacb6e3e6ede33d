/**
 * The package's main export: the client for Node programs, and the extension for programs that embed Pi.
 *
 * Pi itself loads extension/pi.ts, in the published package dist/pi.ts, which do not include the client.
 */
export * from "./extension/client/index.ts";
export { default, KimiCode, type PiExtension } from "./extension/pi.ts";
export type { Overrides } from "./extension/overrides.ts";
