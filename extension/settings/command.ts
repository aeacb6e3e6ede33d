/**
 * `/kimi-settings`: everything as text, single settings read and changed, and the way to the screen. Loaded when the command is
 * given.
 */
import type { ExtensionCommandContext, ExtensionContext } from "@earendil-works/pi-coding-agent";
import type { Facts, SettingKey, SettingsReport } from "../queries.ts";
import { type ModelList, PROVIDER_ID } from "../models.ts";
import { credentialOf } from "../session.ts";
import { type ScreenParts, settingsScreen } from "./screen.ts";
import { accountText, failure, quotaRows, say, walletRows } from "../quota.ts";

/** The value at a dotted path. */
function valueAt(settings: object, path: string): unknown {
  return path.split(".").reduce<unknown>((place, name) => (place as Record<string, unknown> | null)?.[name], settings);
}

/** A value as people read it. */
export function shown(key: SettingKey, value: unknown): string {
  if (value === null || value === undefined) return "not set";
  if (key.form === "switch") return value === true ? "on" : "off";
  if (key.form === "size" && typeof value === "number") return size(value);
  return String(value);
}

function size(bytes: number): string {
  for (const [unit, factor] of [
    ["GiB", 2 ** 30],
    ["MiB", 2 ** 20],
    ["KiB", 2 ** 10],
  ] as const) {
    if (bytes >= factor && bytes % factor === 0) return `${bytes / factor} ${unit}`;
  }
  return `${bytes} B`;
}

/** Text that a person typed as the value that a file holds; `undefined` takes the key out. */
export function typed(key: SettingKey, text: string): unknown {
  const trimmed = text.trim();
  if (trimmed === "" || trimmed === "not set" || trimmed === "default") return undefined;
  if (key.form === "switch") return { on: true, true: true, off: false, false: false }[trimmed] ?? trimmed;
  if (key.form === "number" && Number.isFinite(Number(trimmed))) return Number(trimmed);
  return trimmed;
}

export class SettingsEditor {
  readonly #facts: Facts;
  readonly keys: SettingKey[];
  report: SettingsReport;

  constructor(facts: Facts) {
    this.#facts = facts;
    this.keys = facts.settingKeys();
    this.report = facts.settings();
  }

  /** Writes a setting and lets it count at once. Throws with a readable message. */
  change(scope: "home" | "project", path: string, text: string): SettingKey {
    const key = this.keys.find((candidate) => candidate.path === path);
    if (key === undefined) throw new Error(`${path} is not a setting`);
    this.report = this.#facts.change(key.homeOnly ? "home" : scope, path, typed(key, text));
    return key;
  }

  current(key: SettingKey): string {
    return shown(key, valueAt(this.report.settings, key.path));
  }
}

/** What the command works with. */
export interface SettingsTools {
  facts: Facts;
  models: ModelList;
  parts: ScreenParts;
}

/** The command. */
export async function kimiSettings(
  args: string,
  ctx: ExtensionCommandContext,
  { facts, models, parts }: SettingsTools,
): Promise<void> {
  const editor = new SettingsEditor(facts);
  if (args.trim() !== "") return say(ctx, changed(editor, args));
  if (ctx.mode !== "tui") return say(ctx, await overview(facts, editor, models, ctx));
  await settingsScreen(parts, facts, editor, models, ctx);
}

/** `key`, `key value`, `key value --project`. */
function changed(editor: SettingsEditor, args: string): string {
  const words = args.trim().split(/\s+/);
  const scope = words.includes("--project") ? "project" : "home";
  const [path = "", ...rest] = words.filter((word) => word !== "--project" && word !== "--home");
  try {
    const key = rest.length === 0 ? undefined : editor.change(scope, path, rest.join(" "));
    const known = key ?? editor.keys.find((candidate) => candidate.path === path);
    if (known === undefined)
      return `${path} is not a setting. Known: ${editor.keys.map((each) => each.path).join(", ")}`;
    const origin = editor.report.origins[path];
    return `${path} = ${editor.current(known)}${origin === undefined ? " (default)" : ` (${origin})`}`;
  } catch (error) {
    return failure(error).error;
  }
}

/** Everything as text. */
async function overview(
  facts: Facts,
  editor: SettingsEditor,
  models: ModelList,
  ctx: ExtensionCommandContext,
): Promise<string> {
  const credential = await credentialOf(ctx).catch(() => ({}));
  const [profile, quota] = await Promise.all([
    facts.profile(credential).catch(failure),
    facts.quota(credential).catch(failure),
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

/** `k3 · 1,048,576 tokens · 4 models · https://api.kimi.com/coding` */
export function modelText(ctx: ExtensionContext, models: ModelList, report: SettingsReport): string {
  const model = ctx.model?.provider === PROVIDER_ID ? ctx.model : undefined;
  const window = model === undefined ? undefined : `${grouped(model.contextWindow)} tokens`;
  const list = `${models.models.length} models${models.fetchedAt === 0 ? " (built-in list)" : ""}`;
  return [model?.name, window, list, report.apiRoot ?? models.baseUrl].filter((part) => part).join(" · ");
}

/** `1,048,576` */
function grouped(number: number): string {
  return String(number).replace(/\B(?=(\d{3})+$)/g, ",");
}
