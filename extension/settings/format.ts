/**
 * Formats and parses the values of settings.
 */
import type { ExtensionContext } from "@earendil-works/pi-coding-agent";
import { PROVIDER_ID } from "../ids.ts";
import type { ModelList } from "../models.ts";
import type { SettingKey, SettingsReport } from "../queries.ts";

/** Returns the value at a dotted path. */
export function valueAt(settings: object, path: string): unknown {
  return path.split(".").reduce<unknown>((place, name) => (place as Record<string, unknown> | null)?.[name], settings);
}

/** Formats a value. */
export function formatValue(key: SettingKey, value: unknown): string {
  if (value === null || value === undefined) return "not set";
  if (key.form === "switch") return value === true ? "on" : "off";
  if (key.form === "size" && typeof value === "number") return formatBytes(value);
  return String(value);
}

function formatBytes(bytes: number): string {
  for (const [unit, factor] of [
    ["GiB", 2 ** 30],
    ["MiB", 2 ** 20],
    ["KiB", 2 ** 10],
  ] as const) {
    if (bytes >= factor && bytes % factor === 0) return `${bytes / factor} ${unit}`;
  }
  return `${bytes} B`;
}

/** Parses what a user typed into the value for the file; `undefined` removes the setting. */
export function parseValue(key: SettingKey, text: string): unknown {
  const trimmed = text.trim();
  if (trimmed === "" || trimmed === "not set" || trimmed === "default") return undefined;
  if (key.form === "switch") return { on: true, true: true, off: false, false: false }[trimmed] ?? trimmed;
  if (key.form === "number" && Number.isFinite(Number(trimmed))) return Number(trimmed);
  return trimmed;
}

/** Formats the model line, `k3 · 1,048,576 tokens · 4 models · https://api.kimi.com/coding`. */
export function modelText(ctx: ExtensionContext, models: ModelList, report: SettingsReport): string {
  const model = ctx.model?.provider === PROVIDER_ID ? ctx.model : undefined;
  const window = model === undefined ? undefined : `${groupThousands(model.contextWindow)} tokens`;
  const list = `${models.models.length} models${models.fetchedAt === 0 ? " (built-in list)" : ""}`;
  return [model?.name, window, list, report.apiRoot ?? models.baseUrl].filter((part) => part).join(" · ");
}

/** Formats a number as `1,048,576`. */
function groupThousands(number: number): string {
  return String(number).replace(/\B(?=(\d{3})+$)/g, ",");
}
