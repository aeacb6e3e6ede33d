/**
 * The file that Pi loads.
 *
 * Pi translates every TypeScript file of an extension and resolves the names of its own packages only in what it has translated. So
 * they are imported here, and in the published package (npm/build.mjs) this is the only file for Pi to translate: the rest is
 * JavaScript in one file, which Node loads.
 */
import type { ExtensionAPI } from "@earendil-works/pi-coding-agent";
import type { Overrides } from "./overrides.ts";
import type { PiModules } from "./pi-modules.ts";
import { createExtension } from "./register.ts";

/** An extension of Pi. Its parameter is Pi's `ExtensionAPI`, typed by what we use, so that these types work without Pi's. */
export type PiExtension = (pi: {
  registerProvider(...args: never[]): unknown;
  on(...args: never[]): unknown;
}) => Promise<void>;

async function importPi(): Promise<PiModules> {
  const [piAi, agent, tui] = await Promise.all([
    import("@earendil-works/pi-ai"),
    import("@earendil-works/pi-coding-agent"),
    import("@earendil-works/pi-tui"),
  ]);
  return { piAi, agent, tui };
}

/** Creates an extension for programs that embed Pi: `main(args, { extensionFactories: [KimiCode({ … })] })`. */
export function KimiCode(overrides: Overrides = {}): PiExtension {
  const extension = createExtension(overrides, importPi);
  return (pi) => extension(pi as unknown as ExtensionAPI);
}

/** The extension as Pi loads it. */
export default KimiCode();
