/**
 * Shows the quota in the footer, in `/kimi-usage` and in `/kimi-settings`. Loaded on first use. The addon chooses the words; this module
 * lays them out and colors them.
 */
import type { ExtensionCommandContext, ExtensionContext, Theme } from "@earendil-works/pi-coding-agent";
import { failure, say } from "./command-output.ts";
import type { PiCredentials } from "./credential.ts";
import { PROVIDER_ID } from "./ids.ts";
import type { AddonQueries, Credential, Profile, Quota, QuotaLevel, Wallet } from "./queries.ts";

/** Age at which the footer asks for a new quota, shared by all processes of the user. */
const REFRESH_MS = 90_000;

const STATUS_KEY = "kimi-usage";

/** Colors of the footer and of the bars. */
const STATUS_COLORS = { ok: "dim", warning: "warning", alarm: "error" } as const;
const BAR_COLORS = { ok: "accent", warning: "warning", alarm: "error" } as const;

/** Formats the footer, `Kimi 5h 62% · wk 18% · resets 14:32`; undefined if no window is known. */
export function statusText({ display }: Quota, theme?: Theme): string | undefined {
  const { status, stale } = display;
  if (status.length === 0) return undefined;
  const paint = (text: string, level: QuotaLevel = "ok"): string =>
    theme?.fg(STATUS_COLORS[stale ? "ok" : level], text) ?? text;
  // The forecast, `→ full 13:50`, belongs to what stands before it.
  const parts = status.map(({ text, level }, position) => {
    const before = position === 0 ? "" : text.startsWith("→") ? " " : " · ";
    return paint(before) + paint(text, level);
  });
  return `${paint("Kimi ")}${parts.join("")}`;
}

const EIGHTHS = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/** Draws a bar of exactly `columns` columns. */
export function bar(ratio: number, columns: number, paint = (text: string, _rest: boolean): string => text): string {
  const eighths = Math.round(Math.min(Math.max(ratio, 0), 1) * columns * 8);
  const filled = "█".repeat(Math.floor(eighths / 8)) + (EIGHTHS[eighths % 8] ?? "");
  return paint(filled, false) + paint("░".repeat(columns - filled.length), true);
}

/** Formats the quota as rows of at most `width` columns. */
export function quotaRows({ usage, display }: Quota, width: number, theme?: Theme): string[] {
  const windows = usage?.windows ?? [];
  if (windows.length === 0) return ["No usage data."];
  const labels = Math.min(Math.max(...display.windows.map(({ label }) => label.length)), 28);
  const columns = Math.max(8, Math.min(30, width - labels - 36));
  const rows: string[] = [];
  for (const [position, { label, share, level, resets, remaining, parts }] of display.windows.entries()) {
    const { usedRatio = null, used = null, limit = null } = windows[position] ?? {};
    const name = label.slice(0, labels).padEnd(labels);
    const counted = used === null || limit !== null ? "" : `${used} used`;
    const measure = usedRatio === null ? counted.padEnd(columns) : coloredBar(usedRatio, level, columns, theme);
    const row = `${name}  ${measure} ${share === null ? "" : `${share.padStart(4)} used`}`;
    const reset = resets === null ? "" : `resets ${resets}`;
    const wait = remaining === null ? "" : ` (in ${remaining})`;
    const end = width - labels - columns - 16 >= reset.length + wait.length ? reset + wait : reset;
    rows.push(`${row}  ${end}`.trimEnd());
    if (parts.length > 0) rows.push(`${" ".repeat(labels + 2)}${parts.join(" · ")}`);
  }
  return rows;
}

/** Says when the quota was fetched, if the last request for it failed. */
export function problemText({ problem, display }: Quota): string | undefined {
  if (problem === null) return undefined;
  return display.asOf === null ? problem : `As of ${display.asOf}: ${problem}`;
}

function coloredBar(ratio: number, level: QuotaLevel, columns: number, theme: Theme | undefined): string {
  if (theme === undefined) return bar(ratio, columns);
  return bar(ratio, columns, (text, rest) => theme.fg(rest ? "dim" : BAR_COLORS[level], text));
}

/** Formats how many requests run, `8 of 30 requests under way (5 here)`; undefined if none runs. */
export function parallelText({ parallel, underWayHere }: Quota): string | undefined {
  const { limit, inUse, waiting } = parallel;
  if (inUse === 0 && waiting === 0) return undefined;
  const of = limit === null ? "" : ` of ${limit}`;
  const queue = waiting === 0 ? "" : `, ${waiting} waiting`;
  const requests = inUse === 1 && limit === null ? "request" : "requests";
  return `${inUse}${of} ${requests} under way (${underWayHere} here)${queue}`;
}

/** Formats the balance of extra usage. */
export function walletRows(wallet: Wallet): string[] {
  const limit = wallet.monthlyLimit === null ? "unlimited" : wallet.monthlyLimit.text;
  const spent = wallet.usedThisMonth === null ? "" : ` · ${wallet.usedThisMonth.text} of ${limit} this month`;
  return [`Extra usage  ${wallet.balance.text} left${spent}`];
}

/** Formats the account: `Simulated User · Allegretto (Lv 20) · sim@example.invalid`. */
export function accountText({ name, plan, level, email }: Profile): string {
  const rank = plan === null ? undefined : level !== null ? `${plan} (Lv ${level})` : plan;
  return [name, rank, email].filter((part) => part).join(" · ");
}

/** Updates the quota in the footer; returns whether it is shown. Throws without a credential or after the session. */
export async function showQuota(
  queries: AddonQueries,
  credentials: PiCredentials,
  ctx: ExtensionContext,
): Promise<boolean> {
  if (ctx.model?.provider !== PROVIDER_ID || !queries.settings().settings.statusLine) {
    ctx.ui.setStatus(STATUS_KEY, undefined);
    return false;
  }
  const quota = await queries.quota(await credentials.current(ctx), REFRESH_MS);
  const theme = ctx.mode === "tui" ? ctx.ui.theme : undefined;
  const text = statusText(quota, theme);
  ctx.ui.setStatus(STATUS_KEY, text);
  // Elsewhere the program around Pi lays out the entries.
  return ctx.mode === "tui" && text !== undefined;
}

/** Runs `/kimi-usage [--json]`. */
export async function kimiUsage(
  args: string,
  ctx: ExtensionCommandContext,
  queries: AddonQueries,
  credentials: PiCredentials,
): Promise<void> {
  const credential = await credentials.current(ctx).catch(() => ({}));
  say(ctx, await usageText(queries, credential, ctx, args.split(/\s+/).includes("--json")));
}

async function usageText(
  queries: AddonQueries,
  credential: Credential,
  ctx: ExtensionCommandContext,
  json: boolean,
): Promise<string> {
  const [quota, profile] = await Promise.all([
    queries.quota(credential).catch(failure),
    queries.profile(credential).catch(failure),
  ]);
  if (json) {
    return JSON.stringify({ account: profile, quota, ...("error" in quota ? {} : { parallel: quota.parallel }) });
  }
  const theme = ctx.mode === "tui" ? ctx.ui.theme : undefined;
  const rows: string[] = [];
  rows.push("error" in profile ? `Account: ${profile.error}` : accountText(profile));
  if ("error" in quota) return [...rows, `Usage: ${quota.error}`].join("\n");
  rows.push(...quotaRows(quota, Math.min(process.stdout.columns || 100, 100), theme));
  if (quota.usage?.wallet) rows.push(...walletRows(quota.usage.wallet));
  const parallel = parallelText(quota);
  if (parallel !== undefined) rows.push(parallel);
  const problem = problemText(quota);
  if (problem !== undefined) rows.push(problem);
  // Without a color of its own, Pi would dim the text.
  return rows.map((row) => theme?.fg("text", row) ?? row).join("\n");
}
