/**
 * Follows Pi's sessions: sets the project, reports invalid settings, updates models and footer in the background.
 * Registers the commands, whose code is loaded on first use.
 */
import type { Provider } from "@earendil-works/pi-ai";
import type { ExtensionAPI, ExtensionContext } from "@earendil-works/pi-coding-agent";
import type { PiCredentials } from "./credential.ts";
import type { DoctorParts } from "./doctor/command.ts";
import type { ExtensionEnvironment } from "./environment.ts";
import { API_ID, PROVIDER_ID } from "./ids.ts";
import { defer, lazyImport } from "./lazy.ts";
import type { LoopBrake } from "./loop-brake.ts";
import { isOutdated, type ModelList } from "./models.ts";
import type { AddonQueries } from "./queries.ts";
import type { TrustParts } from "./project-trust.ts";
import type { SettingsTools } from "./settings/command.ts";
import type { ScreenParts } from "./settings/screen.ts";
import { SessionSettings } from "./settings/session-settings.ts";
import type { TurnRunner } from "./turn/runner.ts";

/** What a session works with. */
export interface SessionParts {
  queries: AddonQueries;
  credentials: PiCredentials;
  models: ModelList;
  provider: Provider;
  extensionEnvironment: ExtensionEnvironment;
  trustParts: TrustParts;
}

/** Registers the handlers for the start and end of sessions. */
export function registerSession(
  pi: ExtensionAPI,
  { queries, credentials, models, provider, extensionEnvironment, trustParts }: SessionParts,
): void {
  let started = false;
  const settings = new SessionSettings({ queries, extensionEnvironment, trustParts });
  pi.on("session_start", async (_event, ctx) => {
    extensionEnvironment.setScreen(ctx.hasUI);
    credentials.enterSession(ctx);
    await settings.start(ctx);
    models.announce = undefined;
    if (!ctx.hasUI) return;
    models.announce = async () => {
      await ctx.modelRegistry.refresh({ allowNetwork: false, providers: [PROVIDER_ID] });
      // The selected model is an object of the old list. Registering again makes Pi replace it without an entry in the session.
      if (isOutdated(ctx)) pi.registerProvider(provider);
    };
    // Pi's RPC mode emits session_start twice for a new session.
    if (started) return;
    started = true;
    defer(async () => models.update(await credentials.current(ctx)));
    // In a checkout these are files of their own. The first opening of the screen would wait for Pi to compile it.
    defer(() => lazyImport(() => import("./settings/command.ts")));
    // An update may replace the files of a running Pi, and files of two versions do not fit together.
    defer(() => lazyImport(() => import("./login.ts")));
  });
  pi.on("before_agent_start", async (_event, ctx) => settings.refresh(ctx));
  pi.on("session_shutdown", async (_event, ctx) => {
    started = false;
    models.announce = undefined;
    await settings.end(ctx);
  });
  queries.onChange(() => {
    try {
      models.reload();
      // Pi's cache warmer asks the selected model, which is an object of the list before.
      defer(async () => models.announce?.());
    } catch {
      // The last list stays.
    }
  });
}

/** Registers `/kimi-settings`. `parts` are Pi's components for its screen. */
export function registerSettings(pi: ExtensionAPI, tools: Omit<SettingsTools, "parts">, parts: ScreenParts): void {
  pi.registerCommand("kimi-settings", {
    description: "Kimi Code: account, quota and settings",
    getArgumentCompletions: (prefix) => {
      const found = tools.queries.settingKeys().filter(({ path }) => path.startsWith(prefix) && !path.includes("*"));
      return found.map(({ path, help }) => ({ value: path, label: path, description: help }));
    },
    handler: async (args, ctx) => {
      const { kimiSettings } = await lazyImport(() => import("./settings/command.ts"));
      await kimiSettings(args, ctx, { ...tools, parts });
    },
  });
}

/** Registers the brake for models that repeat themselves (loop-brake.ts). Its code is loaded after the start of a session. */
export function registerLoopBrake(pi: ExtensionAPI, queries: AddonQueries, turnRunner: TurnRunner): void {
  let brake: LoopBrake | undefined;
  turnRunner.refusal = (context) => brake?.refusal(context);
  // A handler that throws makes Pi block the call.
  const use = <T>({ model }: ExtensionContext, judge: (brake: LoopBrake) => T): T | undefined => {
    if (brake === undefined || model?.api !== API_ID) return undefined;
    try {
      return judge(brake);
    } catch {
      return undefined;
    }
  };
  const load = async (): Promise<LoopBrake> => {
    const { LoopBrake } = await lazyImport(() => import("./loop-brake.ts"));
    return (brake ??= new LoopBrake(pi, () => queries.settings().settings.loop));
  };
  pi.on("session_start", () => {
    brake?.reset();
    defer(load);
  });
  pi.on("message_end", ({ message }) => {
    if (message.role === "user") brake?.reset();
  });
  queries.onChange((settings) => brake?.follow(settings.loop));
  pi.on("session_compact", () => brake?.forgetResults());
  pi.on("turn_start", async (_event, ctx) => {
    if (ctx.model?.api !== API_ID) return;
    try {
      (await load()).startMessage();
    } catch {
      // An update has replaced the file; the model goes on unwatched.
    }
  });
  pi.on("tool_call", ({ toolCallId, toolName, input }, ctx) => {
    const reason = use(ctx, (one) => one.before(toolCallId, toolName, input, ctx));
    return reason === undefined ? undefined : { block: true, reason };
  });
  pi.on("tool_result", (event, ctx) => {
    use(ctx, (one) => one.after(event.toolCallId, event));
  });
  pi.on("turn_end", ({ message, toolResults }, ctx) => {
    if (message.role !== "assistant") return;
    use(ctx, (one) => {
      const calls = message.content.filter((part) => part.type === "toolCall");
      one.endMessage(calls, toolResults, ctx);
    });
  });
}

/** Registers `/kimi-doctor`. */
export function registerDoctor(pi: ExtensionAPI, parts: DoctorParts): void {
  pi.registerCommand("kimi-doctor", {
    description: "Examine settings, login and connection (--live asks a model, --report writes a file, --json)",
    handler: async (args, ctx) => {
      const { kimiDoctor } = await lazyImport(() => import("./doctor/command.ts"));
      await kimiDoctor(args, ctx, parts);
    },
  });
}

/** Registers `/kimi-usage` and `/kimi-quota`, and shows the quota in the footer. */
export function registerUsage(
  pi: ExtensionAPI,
  queries: AddonQueries,
  credentials: PiCredentials,
  footer: { quotaShown: boolean },
): void {
  const show = (ctx: ExtensionContext): void => {
    if (!ctx.hasUI) return;
    defer(async () => {
      const { showQuota } = await lazyImport(() => import("./quota.ts"));
      footer.quotaShown = await showQuota(queries, credentials, ctx);
    });
  };
  for (const event of ["session_start", "model_select", "agent_end"] as const) {
    pi.on(event as "agent_end", (_event, ctx) => show(ctx));
  }
  let ignoreChanges = (): void => undefined;
  pi.on("session_start", (_event, ctx) => {
    ignoreChanges();
    let shown: boolean | undefined;
    ignoreChanges = queries.onChange(({ statusLine }) => {
      if (statusLine !== shown) show(ctx);
      shown = statusLine;
    });
  });
  pi.on("session_shutdown", () => ignoreChanges());
  pi.registerCommand("kimi-usage", {
    description: "Show the quota of the Kimi plan, or what used it: --history 7d --by session (--json for scripts)",
    handler: async (args, ctx) => {
      if (/--(history|by)\b/.test(args)) {
        const { kimiHistory } = await lazyImport(() => import("./plan/history.ts"));
        return kimiHistory(args, ctx, queries, credentials);
      }
      const { kimiUsage } = await lazyImport(() => import("./quota.ts"));
      await kimiUsage(args, ctx, queries, credentials);
    },
  });
  pi.registerCommand("kimi-quota", {
    description: "Requests that wait for a quota window: show them, wait, stop or resume (--json for scripts)",
    getArgumentCompletions: (prefix) => {
      const choices = ["wait", "stop", "resume"].filter((choice) => choice.startsWith(prefix));
      return choices.map((choice) => ({ value: choice, label: choice }));
    },
    handler: async (args, ctx) => {
      const { kimiQuota } = await lazyImport(() => import("./plan/quota-command.ts"));
      await kimiQuota(args, ctx, queries, credentials);
    },
  });
}
