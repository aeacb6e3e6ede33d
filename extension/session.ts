/**
 * What a session of Pi sets in motion: its project is entered, settings that make no sense are named once, the catalog and the
 * footer are brought up to date behind Pi's back. And the commands, whose screens and texts are loaded when somebody asks
 * for them.
 */
import type { Model, Provider } from "@earendil-works/pi-ai";
import type { ExtensionAPI, ExtensionContext } from "@earendil-works/pi-coding-agent";
import { credentialOf } from "./credential.ts";
import type { ExtensionEnvironment } from "./environment.ts";
import { defer, lazyImport } from "./lazy.ts";
import { type ModelList, PROVIDER_ID } from "./models.ts";
import type { AddonQueries } from "./queries.ts";
import type { ScreenParts } from "./settings/screen.ts";
import { warn } from "./warning.ts";

/** What a session works with. */
export interface SessionParts {
  queries: AddonQueries;
  models: ModelList;
  provider: Provider;
  extensionEnvironment: ExtensionEnvironment;
}

/** Follows the sessions of Pi. */
export function registerSession(
  pi: ExtensionAPI,
  { queries, models, provider, extensionEnvironment }: SessionParts,
): void {
  let told = "";
  let begun = false;
  pi.on("session_start", (_event, ctx) => {
    // Before 0.79 Pi knows no trust; then a project's settings do not count.
    const trusted = typeof ctx.isProjectTrusted === "function" && ctx.isProjectTrusted();
    extensionEnvironment.enterProject(ctx.cwd, trusted);
    try {
      const text = queries.settings().problems.join("\n");
      if (text !== "" && text !== told) warn(ctx, `Kimi settings:\n${text}`);
      told = text;
    } catch {
      // A base URL that cannot be used is said by the first request.
    }
    models.announce = undefined;
    if (!ctx.hasUI) return;
    models.announce = async () => {
      await ctx.modelRegistry.refresh({ allowNetwork: false, providers: [PROVIDER_ID] });
      // The selected model is an object of the old list. Registering again is how Pi exchanges it without an entry in the session.
      if (isOutdated(ctx)) pi.registerProvider(provider);
    };
    // Pi's RPC mode announces a new session twice.
    if (begun) return;
    begun = true;
    defer(async () => models.update(await credentialOf(ctx)));
    // Opening the screen for the first time would otherwise wait for Pi to compile it.
    defer(() => lazyImport(() => import("./settings/command.ts")));
    // An update replaces the files of a running Pi, and parts of two versions do not fit.
    defer(() => lazyImport(() => import("./login.ts")));
  });
  pi.on("session_shutdown", () => {
    begun = false;
    models.announce = undefined;
  });
  queries.onChange(() => {
    try {
      models.reload();
    } catch {
      // The list we have stays.
    }
  });
}

/** Whether the selected model is one of ours that has another window, or thinks and sees otherwise, than the list says now. */
function isOutdated({ model, modelRegistry }: ExtensionContext): boolean {
  if (model?.provider !== PROVIDER_ID) return false;
  const listed = modelRegistry.find(PROVIDER_ID, model.id);
  const traits = ({ contextWindow, maxTokens, reasoning, thinkingLevelMap, input }: Model<string>): string =>
    JSON.stringify([contextWindow, maxTokens, reasoning, thinkingLevelMap, input]);
  return listed !== undefined && traits(listed) !== traits(model);
}

/** `/kimi-settings`. `parts` are the components that Pi brings; without them the command speaks text. */
export function registerSettings(pi: ExtensionAPI, queries: AddonQueries, models: ModelList, parts: ScreenParts): void {
  pi.registerCommand("kimi-settings", {
    description: "Kimi Code: account, quota and settings",
    getArgumentCompletions: (prefix) => {
      const found = queries.settingKeys().filter(({ path }) => path.startsWith(prefix));
      return found.map(({ path, help }) => ({ value: path, label: path, description: help }));
    },
    handler: async (args, ctx) => {
      const { kimiSettings } = await lazyImport(() => import("./settings/command.ts"));
      await kimiSettings(args, ctx, { queries, models, parts });
    },
  });
}

/** `/kimi-usage`, and the quota in the footer. */
export function registerUsage(pi: ExtensionAPI, queries: AddonQueries): void {
  for (const event of ["session_start", "model_select", "agent_end"] as const) {
    pi.on(event as "agent_end", (_event, ctx) => {
      if (ctx.hasUI) defer(async () => (await lazyImport(() => import("./quota.ts"))).showQuota(queries, ctx));
    });
  }
  pi.registerCommand("kimi-usage", {
    description: "Show the quota of the Kimi plan (--json for scripts)",
    handler: async (args, ctx) => {
      const { kimiUsage } = await lazyImport(() => import("./quota.ts"));
      await kimiUsage(args, ctx, queries);
    },
  });
}
