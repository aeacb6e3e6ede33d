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
import { warn } from "./warning.ts";

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

/** Kept, because Pi calls an extension anew for each session, also after an update has removed its files. */
let registration: Promise<typeof import("./register.ts")> | undefined;

/** Imports the rest when it is used: programs that only need the client import this file too. */
async function importRegistration(): Promise<typeof import("./register.ts")> {
  try {
    return await (registration ??= import("./register.ts"));
  } catch (error) {
    registration = undefined;
    throw error;
  }
}

/** Creates an extension for programs that embed Pi: `main(args, { extensionFactories: [KimiCode({ … })] })`. */
export function KimiCode(overrides: Overrides = {}): PiExtension {
  return async (host) => {
    const pi = host as unknown as ExtensionAPI;
    try {
      const { createExtension } = await importRegistration();
      await createExtension(overrides, importPi)(pi);
    } catch (error) {
      // A file is missing. An exception would end some versions of Pi.
      const reason = error instanceof Error ? error.message.split("\n")[0] : String(error);
      const repair = "after an update run /reload or restart, otherwise install the package again";
      pi.on("session_start", (_event, context) =>
        warn(context, `Kimi Code could not be loaded: ${reason}. Repair: ${repair}.`),
      );
    }
  };
}

/** The extension as Pi loads it. */
export default KimiCode();
