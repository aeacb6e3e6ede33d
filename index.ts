/**
 * Pi's entry: registers Kimi Code as a provider.
 *
 * Nothing here may throw, because an exception while an extension loads ends Pi; and nothing may print, because that corrupts its
 * screen. Whatever is missing becomes one warning, and Pi's built-in provider stays in place.
 */
import { homedir } from "node:os";
import { join } from "node:path";
import type { ExtensionAPI } from "@earendil-works/pi-coding-agent";
import { host } from "./extension/environment.ts";
import { loadAddon, settleOnExit } from "./extension/native.ts";
import { Notices } from "./extension/notices.ts";
import { kimiProvider, type PiAi } from "./extension/provider.ts";

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
  const [piAi, agent] = await Promise.all([
    import("@earendil-works/pi-ai"),
    import("@earendil-works/pi-coding-agent") as Promise<{ VERSION?: string }>,
  ]);
  const notices = new Notices();
  const built = kimiProvider(addon, piAi as PiAi, host(agent.VERSION), notices);
  if ("problem" in built) return built.problem;
  pi.registerProvider(built.provider);
  pi.on("session_start", (_event, context) => notices.attach(context.ui));
  return undefined;
}

/** The extension. */
export default async function kimiCode(pi: ExtensionAPI): Promise<void> {
  let problem: string | undefined;
  try {
    problem = await register(pi);
  } catch (error) {
    problem = `Kimi Code could not be set up: ${error instanceof Error ? error.message : String(error)}`;
  }
  if (problem === undefined) return;
  const text = problem;
  pi.on("session_start", (_event, context) => context.ui.notify(text, "warning"));
}
