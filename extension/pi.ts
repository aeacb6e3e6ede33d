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
  return async (host) => {
    const pi = host as unknown as ExtensionAPI;
    try {
      // Imported when it is used: programs that only need the client import this file too.
      const { createExtension } = await import("./register.ts");
      await createExtension(overrides, importPi)(pi);
    } catch (error) {
      // A damaged installation. An exception would end some versions of Pi.
      const reason = error instanceof Error ? error.message.split("\n")[0] : String(error);
      const text = `Kimi Code could not be loaded: ${reason}. Repair: install the package again.`;
      pi.on("session_start", (_event, { ui }) => ui.notify(text, "warning"));
    }
  };
}

/** The extension as Pi loads it. */
export default KimiCode();
