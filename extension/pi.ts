/**
 * Pi's entry, which registers Kimi Code as a provider with its commands and tools.
 *
 * Nothing here may throw, because an exception while an extension loads ends Pi; and nothing may print where it has a
 * screen, because that corrupts it. Whatever is missing becomes one warning, and Pi's built-in provider stays in place.
 *
 * Every start of Pi waits for what is imported statically from here on. What screens, texts, turns and tools need is loaded
 * when they are used.
 */
import { homedir } from "node:os";
import { join } from "node:path";
import type { ExtensionAPI } from "@earendil-works/pi-coding-agent";
import { host, Surroundings } from "./environment.ts";
import { Facts } from "./queries.ts";
import { loadAddon } from "./native/loader.ts";
import { ModelList, PROVIDER_ID } from "./models.ts";
import { type Overrides, settingsVariable } from "./overrides.ts";
import { later, part } from "./lazy.ts";
import { kimiProvider, type PiAi } from "./provider.ts";
import { registerSession, registerSettings, registerUsage } from "./session.ts";
import { registerTools } from "./tools/register.ts";
import { Turns } from "./turn/runner.ts";
import { warn } from "./warning.ts";

/** An extension of Pi. Its parameter is Pi's `ExtensionAPI`, described by what we need of it: programs without Pi read this too. */
export type PiExtension = (pi: {
  registerProvider(...args: never[]): unknown;
  on(...args: never[]): unknown;
}) => Promise<void>;

/** Registers the provider, or says why that is impossible. */
async function register(pi: ExtensionAPI, overrides: Overrides): Promise<string | undefined> {
  const loaded = loadAddon();
  if (loaded.addon === undefined) return `${loaded.problem}\nPi's built-in Kimi provider stays in place.`;
  if (process.env["KIMI_CODE_DEBUG"] === "1") {
    loaded.addon.logTo(join(homedir(), ".pi", "pi-provider-kimi-code", "debug.log"));
  }
  const { addon } = loaded;
  const { apiKey, env = {}, ...settings } = overrides;
  const surroundings = new Surroundings({ ...env, ...settingsVariable(settings) });
  // Not imported statically: plain Node programs load this file without Pi being installed.
  const [piAi, agent, tui] = await Promise.all([
    import("@earendil-works/pi-ai"),
    import("@earendil-works/pi-coding-agent"),
    import("@earendil-works/pi-tui"),
  ]);
  const us = host((agent as { VERSION?: string }).VERSION);
  const facts = new Facts(addon, us, surroundings);
  const models = new ModelList(facts);
  const turns = new Turns(addon, us, surroundings);
  const built = kimiProvider({ addon, piAi: piAi as PiAi, host: us, surroundings, models, turns, key: apiKey });
  if ("problem" in built) return built.problem;
  pi.registerProvider(built.provider);
  pi.on("session_start", (_event, context) => {
    turns.attach(context.ui);
    later(() => turns.load());
  });
  registerSession(pi, { facts, models, provider: built.provider, surroundings });
  registerSettings(pi, facts, models, { tui, listTheme: () => agent.getSettingsListTheme() });
  registerUsage(pi, facts);
  // After the session's own handler, which says what project it is in.
  const services = async () => new (await part(() => import("./services.ts"))).KimiServices(addon, us, surroundings);
  registerTools(pi, facts, services, PROVIDER_ID);
  return undefined;
}

/** Makes the extension for `main(args, { extensionFactories: [KimiCode({ … })] })` and for Pi's SDK. */
export function KimiCode(overrides: Overrides = {}): PiExtension {
  return async (host) => {
    const pi = host as unknown as ExtensionAPI;
    let problem: string | undefined;
    try {
      problem = await register(pi, overrides);
    } catch (error) {
      problem = `Kimi Code could not be set up: ${error instanceof Error ? error.message : String(error)}`;
    }
    if (problem === undefined) return;
    const text = problem;
    pi.on("session_start", (_event, context) => warn(context, text));
  };
}

/** The extension as Pi loads it. */
export default KimiCode();
