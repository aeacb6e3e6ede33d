/**
 * Pi's entry, which registers Kimi Code as a provider, and what other Node programs import.
 *
 * Nothing in the extension may throw, because an exception while an extension loads ends Pi; and nothing may print, because that corrupts its
 * screen. Whatever is missing becomes one warning, and Pi's built-in provider stays in place.
 */
import { homedir } from "node:os";
import { join } from "node:path";
import type { ExtensionAPI } from "@earendil-works/pi-coding-agent";
import { host, overrideEnvironment } from "./extension/environment.ts";
import { Facts } from "./extension/facts.ts";
import { ModelList, PROVIDER_ID } from "./extension/models.ts";
import { loadAddon } from "./extension/native.ts";
import { Notices } from "./extension/notices.ts";
import { type Overrides, settingsVariable } from "./extension/overrides.ts";
import { kimiProvider, type PiAi } from "./extension/provider.ts";
import { KimiServices } from "./extension/services.ts";
import { registerSettings } from "./extension/settings.ts";
import { registerTools } from "./extension/tools.ts";
import { registerUsage } from "./extension/usage.ts";

export { Chat, type ChatEvent, type ChatNotice } from "./extension/client/chat.ts";
export * from "./extension/client/errors.ts";
export * from "./extension/client/kimi.ts";
export type { Cancellable } from "./extension/client/asking.ts";
export type { FileSource, KimiFiles, UploadedFile, UploadOptions } from "./extension/client/files.ts";
export type { LoginCode, LoginOptions } from "./extension/client/login.ts";
export type * from "./extension/client/messages.ts";
export type * from "./extension/client/options.ts";
export type { ServiceCallOptions } from "./extension/client/services.ts";
export type {
  DatasourceAnswer,
  DatasourceRequest,
  FetchAnswer,
  ReturnedFile,
  SearchAnswer,
  SearchResult,
} from "./extension/services.ts";
export type { Money, Profile, Quota, QuotaWindow, Wallet } from "./extension/facts.ts";
export type { Overrides, SettingsOverrides } from "./extension/overrides.ts";

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
  overrideEnvironment({ ...env, ...settingsVariable(settings) });
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
  const built = kimiProvider(addon, piAi as PiAi, us, models, notices, apiKey);
  if ("problem" in built) return built.problem;
  pi.registerProvider(built.provider);
  pi.on("session_start", (_event, context) => notices.attach(context.ui));
  registerSettings(pi, facts, models, { tui, listTheme: () => agent.getSettingsListTheme() });
  registerUsage(pi, facts);
  // After the settings: their handler says which project the session is in.
  registerTools(pi, facts, new KimiServices(addon, us), PROVIDER_ID);
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
    pi.on("session_start", (_event, context) => context.ui.notify(text, "warning"));
  };
}

/** The extension as Pi loads it. */
export default KimiCode();
