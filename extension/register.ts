/**
 * Registers Kimi Code in Pi: the provider, its commands and tools.
 *
 * Nothing here may throw, because an exception during loading ends Pi, and nothing may print, because that corrupts Pi's screen.
 * If something is missing, the user gets one warning, and Pi's built-in provider stays in place.
 *
 * Static imports delay every start of Pi, so what screens, turns and tools need is imported when they are used.
 */
import { homedir } from "node:os";
import { join } from "node:path";
import type { ExtensionAPI } from "@earendil-works/pi-coding-agent";
import { registerCache } from "./cache/register.ts";
import { toolSource } from "./cache/tool-source.ts";
import { PiCredentials } from "./credential.ts";
import { ExtensionEnvironment, host } from "./environment.ts";
import { defer, lazyImport } from "./lazy.ts";
import { registerMedia } from "./media/register.ts";
import { ModelList } from "./models.ts";
import type { Addon, Loaded } from "./native/addon.ts";
import { loadAddon } from "./native/loader.ts";
import { type Overrides, settingsVariable } from "./overrides.ts";
import { argumentKey, listWait } from "./pi-arguments.ts";
import type { ImportPi } from "./pi-modules.ts";
import { registerPreconnect } from "./preconnect.ts";
import { markChildren, sessionPriority } from "./priority.ts";
import { kimiProvider, type PiAi } from "./provider.ts";
import { AddonQueries } from "./queries.ts";
import { registerDoctor, registerLoopBrake, registerSession, registerSettings, registerUsage } from "./session.ts";
import { registerTools } from "./tools/register.ts";
import { TurnRunner } from "./turn/runner.ts";
import { isAtLeast, OLDEST_PI } from "./versions.ts";
import { warn } from "./warning.ts";

/**
 * The addon, once it is loaded. Kept, because Pi registers an extension anew for each session: after an update the folder that it is
 * searched from holds the addon of another version, or is gone.
 */
let kept: Addon | undefined;

function keptAddon(): Loaded {
  if (kept !== undefined) return { addon: kept };
  const loaded = loadAddon();
  kept = loaded.addon;
  return loaded;
}

/** Registers everything. Returns the reason if that is impossible. */
async function register(pi: ExtensionAPI, overrides: Overrides, importPi: ImportPi): Promise<string | undefined> {
  const loaded = keptAddon();
  if (loaded.addon === undefined) return `${loaded.problem}\nPi's built-in Kimi provider stays in place.`;
  if (process.env["KIMI_CODE_DEBUG"] === "1") {
    try {
      loaded.addon.logTo(join(homedir(), ".pi", "pi-provider-kimi-code", "debug.log"));
    } catch (error) {
      process.stderr.write(`Kimi Code writes no debug log: ${(error as Error).message}\n`);
    }
  }
  const { addon } = loaded;
  addon.adviseUsersOfPi();
  const { apiKey, env = {}, ...settings } = overrides;
  const extensionEnvironment = new ExtensionEnvironment({ ...env, ...settingsVariable(settings) });
  const modules = await importPi();
  const { piAi, agent, tui } = modules;
  const { VERSION } = agent as { VERSION?: string };
  if (!isAtLeast(VERSION, ...OLDEST_PI)) {
    return `Kimi Code needs Pi ${OLDEST_PI.join(".")} or newer, and this is Pi ${VERSION ?? ""}. Please update Pi.`;
  }
  const thisHost = host(VERSION);
  const queries = new AddonQueries(addon, thisHost, extensionEnvironment);
  const credentials = new PiCredentials(agent.getAgentDir());
  const models = new ModelList(queries, credentials);
  const footer = { quotaShown: false };
  const turnRunner = new TurnRunner(addon, thisHost, extensionEnvironment);
  const provider = kimiProvider({
    addon,
    piAi: piAi as PiAi,
    host: thisHost,
    extensionEnvironment,
    credentials,
    models,
    turnRunner,
    key: apiKey,
  });
  const key = apiKey ?? argumentKey(process.argv);
  await models.complete(credentials.ofKey(key), listWait(process.argv));
  pi.registerProvider(provider);
  pi.on("session_start", (_event, context) => {
    const cancelKey = (): string => agent.keyText("app.interrupt") || "escape";
    const named = (text: string): string => toolSource(pi, text);
    const alwaysWait = (): void => void queries.change("home", "quota.onExhausted", "wait");
    const isTerminal = context.mode === "tui";
    turnRunner.attach(context.ui, { hasUI: context.hasUI, isTerminal, cancelKey, footer, alwaysWait, named });
    turnRunner.priority = sessionPriority(context);
    markChildren(context.hasUI);
    defer(() => turnRunner.load());
  });
  registerSession(pi, { queries, credentials, models, provider, extensionEnvironment, trustParts: agent });
  registerPreconnect(pi, queries, credentials);
  const settingsTools = { queries, credentials, models, trustParts: agent, extensionEnvironment };
  registerSettings(pi, settingsTools, { tui, listTheme: () => agent.getSettingsListTheme() });
  registerUsage(pi, queries, credentials, footer);
  // Before the handler that replaces paths in a message, so that the user's own text can be given back.
  registerCache(pi, queries, credentials);
  registerLoopBrake(pi, queries, turnRunner);
  registerDoctor(pi, { credentials, extensionEnvironment, piVersion: VERSION });
  // After registerSession, whose handler sets the project.
  const services = async () =>
    new (await lazyImport(() => import("./services.ts"))).KimiServices(addon, thisHost, extensionEnvironment);
  const mediaFiles = registerMedia(pi, addon, { host: thisHost, extensionEnvironment }, credentials);
  registerTools(pi, queries, { services, mediaFiles, credentials, modules });
  return undefined;
}

/** Creates an extension that takes Pi's packages from `importPi`. */
export function createExtension(overrides: Overrides, importPi: ImportPi): (pi: ExtensionAPI) => Promise<void> {
  return async (pi) => {
    let problem: string | undefined;
    try {
      problem = await register(pi, overrides, importPi);
    } catch (error) {
      problem = `Kimi Code could not be set up: ${error instanceof Error ? error.message : String(error)}`;
    }
    if (problem === undefined) return;
    const text = problem;
    pi.on("session_start", (_event, context) => warn(context, text));
  };
}
