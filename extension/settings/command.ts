/**
 * Runs `/kimi-settings`: opens the screen, prints everything as text, reads and changes single settings. Loaded on first use.
 */
import type { ExtensionCommandContext } from "@earendil-works/pi-coding-agent";
import { failure, say } from "../command-output.ts";
import type { PiCredentials } from "../credential.ts";
import type { ModelList } from "../models.ts";
import type { AddonQueries } from "../queries.ts";
import { accountText, quotaRows, walletRows } from "../quota.ts";
import { SettingsEditor } from "./editor.ts";
import { modelText } from "./format.ts";
import { type ScreenParts, settingsScreen } from "./screen.ts";

/** What the command works with. */
export interface SettingsTools {
  queries: AddonQueries;
  credentials: PiCredentials;
  models: ModelList;
  parts: ScreenParts;
}

/** Runs the command. */
export async function kimiSettings(args: string, ctx: ExtensionCommandContext, tools: SettingsTools): Promise<void> {
  const editor = new SettingsEditor(tools.queries);
  if (args.trim() !== "") return say(ctx, readOrChange(editor, args));
  if (ctx.mode !== "tui") return say(ctx, await overview(tools, editor, ctx));
  await settingsScreen(tools.parts, tools, editor, ctx);
}

/** Runs `key`, `key value` and `key value --project`; returns the resulting value as text. */
function readOrChange(editor: SettingsEditor, args: string): string {
  const words = args.trim().split(/\s+/);
  const scope = words.includes("--project") ? "project" : "home";
  const [path = "", ...rest] = words.filter((word) => word !== "--project" && word !== "--home");
  try {
    const key = rest.length === 0 ? editor.find(path) : editor.change(scope, path, rest.join(" "));
    const origin = editor.report.origins[key.path];
    return `${key.path} = ${editor.current(key)}${origin === undefined ? " (default)" : ` (${origin})`}`;
  } catch (error) {
    return failure(error).error;
  }
}

/** Returns account, quota and all settings as text. */
async function overview(
  { queries, credentials, models }: SettingsTools,
  editor: SettingsEditor,
  ctx: ExtensionCommandContext,
): Promise<string> {
  const credential = await credentials.current(ctx).catch(() => ({}));
  const [profile, quota] = await Promise.all([
    queries.profile(credential).catch(failure),
    queries.quota(credential).catch(failure),
    models.update(credential),
  ]);
  const rows = ["Kimi settings", "error" in profile ? `Account: ${profile.error}` : accountText(profile)];
  rows.push(modelText(ctx, models, editor.report), "");
  if ("error" in quota) rows.push(`Usage: ${quota.error}`);
  else rows.push(...quotaRows(quota, 100), ...(quota.usage?.wallet ? walletRows(quota.usage.wallet) : []));
  rows.push("");
  for (const key of editor.keys) {
    const origin = editor.report.origins[key.path];
    rows.push(`${key.path} = ${editor.current(key)}${origin === undefined ? "" : `  (${origin})`}`);
  }
  return [...rows, ...editor.report.problems].join("\n");
}
