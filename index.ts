/**
 * The package's main export: the client for Node programs, and the extension for programs that embed Pi.
 *
 * Pi itself loads extension/pi.ts, which does not include the client.
 */
export * from "./extension/client/index.ts";
export { default, KimiCode, type PiExtension } from "./extension/pi.ts";
export type { Overrides } from "./extension/overrides.ts";
