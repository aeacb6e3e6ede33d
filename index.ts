/**
 * Pi's entry: registers Kimi Code as a provider.
 *
 * Nothing here may throw, because an exception while an extension loads ends Pi; and nothing may print, because that corrupts its
 * screen. Whatever is missing becomes one warning, and Pi's built-in provider stays in place.
 */
import { homedir } from "node:os";
import { join } from "node:path";
import type { ExtensionAPI } from "@earendil-works/pi-coding-agent";
import { host, overrideSettings } from "./extension/environment.ts";
import { Facts } from "./extension/facts.ts";
import { ModelList } from "./extension/models.ts";
import { loadAddon, settleOnExit } from "./extension/native.ts";
import { Notices } from "./extension/notices.ts";
import { kimiProvider, type PiAi } from "./extension/provider.ts";
import { registerSettings } from "./extension/settings.ts";
import { registerUsage } from "./extension/usage.ts";

/** Registers the provider, or says why that is impossible. */
async function register(pi: ExtensionAPI): Promise<string | undefined> {
  const loaded = loadAddon();
  if (loaded.addon === undefined) return loaded.problem;
  if (process.env["KIMI_CODE_DEBUG"] === "1") {
    loaded.addon.logTo(join(homedir(), ".pi", "pi-provider-kimi-code", "debug.log"));
  }
  const { addon } = loaded;
  settleOnExit(addon);
  // Not imported statically: plain Node programs load this file without Pi being installed.
  const [piAi, agent, tui] = await Promise.all([
    import("@earendil-works/pi-ai"),
    import("@earendil-works/pi-coding-agent"),
    import("@earendil-works/pi-tui"),
  ]);
  const us = host((agent as { VERSION?: string }).VERSION);
  const facts = new Facts(addon, us);
  const models = new ModelList(facts);
  const notices = new Notices();
  const built = kimiProvider(addon, piAi as PiAi, us, models, notices);
  if ("problem" in built) return built.problem;
  pi.registerProvider(built.provider);
  pi.on("session_start", (_event, context) => notices.attach(context.ui));
  registerSettings(pi, facts, models, { tui, listTheme: () => agent.getSettingsListTheme() });
  registerUsage(pi, facts);
  return undefined;
}

/** What `KimiCode` may be given: any part of a settings file; outranks files and environment. */
export type SettingsOverrides = Record<string, unknown>;

/** The extension, for programs that embed Pi and bring settings of their own. */
export function KimiCode(overrides?: SettingsOverrides): (pi: ExtensionAPI) => Promise<void> {
  return async (pi) => {
    let problem: string | undefined;
    try {
      if (overrides !== undefined) overrideSettings(overrides);
      problem = await register(pi);
    } catch (error) {
      problem = `Kimi Code could not be set up: ${error instanceof Error ? error.message : String(error)}`;
    }
    if (problem === undefined) return;
    const text = problem;
    pi.on("session_start", (_event, context) => context.ui.notify(text, "warning"));
  };
}

export default KimiCode();
