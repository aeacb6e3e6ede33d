/**
 * Formats what the settings screen says about the model.
 */
import type { ExtensionContext } from "@earendil-works/pi-coding-agent";
import { PROVIDER_ID } from "../ids.ts";
import type { ModelList } from "../models.ts";
import type { SettingsReport } from "../queries.ts";

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
