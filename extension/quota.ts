/**
 * Formats the quota for the footer, `/kimi-usage` and `/kimi-settings`. Loaded on first use.
 *
 * Dates are formatted without `Intl`, whose first use blocks the screen for tens of milliseconds.
 */
import { writeSync } from "node:fs";
import type { ExtensionCommandContext, ExtensionContext, Theme } from "@earendil-works/pi-coding-agent";
import type { PiCredentials } from "./credential.ts";
import { PROVIDER_ID } from "./ids.ts";
import type { AddonQueries, Credential, Profile, Quota, QuotaWindow, Wallet } from "./queries.ts";

/** Age at which the footer asks for a new quota, shared by all processes of the user. */
const REFRESH_MS = 90_000;

/** Age from which a quota is shown dimmed, with its time. */
const STALE_MS = 10 * 60_000;

/** Used ratios from which a window is shown as a warning and as an error. */
const WARN_AT = 0.8;
const ALARM_AT = 0.95;

const STATUS_KEY = "kimi-usage";

const DAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/** Formats a ratio as `62%`. Only exact values give 0% and 100%. */
function percent(ratio: number): string {
  const exact = ratio * 100;
  if (exact > 0 && exact < 1) return "1%";
  if (exact > 99 && exact < 99.95) return "99%";
  return `${Math.min(Math.round(exact), 999)}%`;
}

/** Formats a time as `14:32`, `Fri 14:32` or `Dec 12, 14:32`, in local time. */
export function clock(at: number, now = Date.now()): string {
  const then = new Date(at);
  const time = [then.getHours(), then.getMinutes()].map((part) => String(part).padStart(2, "0")).join(":");
  if (then.toDateString() === new Date(now).toDateString()) return time;
  if (at - now < 6 * 86_400_000) return `${DAYS[then.getDay()]} ${time}`;
  return `${MONTHS[then.getMonth()]} ${then.getDate()}, ${time}`;
}

/** Formats a duration as `12 min`, `1 h 12 min` or `4 d 23 h`. */
export function remaining(ms: number): string {
  const minutes = Math.max(0, Math.ceil(ms / 60_000));
  const [days, hours, rest] = [Math.floor(minutes / 1440), Math.floor(minutes / 60) % 24, minutes % 60];
  if (days > 0) return hours > 0 ? `${days} d ${hours} h` : `${days} d`;
  if (hours > 0) return rest > 0 ? `${hours} h ${rest} min` : `${hours} h`;
  return `${rest} min`;
}

/** Selects the windows for the footer: the 5-hour and the weekly one, and each that is nearly used up. */
function footerWindows(windows: QuotaWindow[]): QuotaWindow[] {
  const known = windows.filter(({ usedRatio }) => usedRatio !== null);
  const chosen = known.filter(({ id, usedRatio }) => id === "5h" || id === "7d" || (usedRatio ?? 0) >= WARN_AT);
  return chosen.length > 0 ? chosen : known.slice(0, 2);
}

/** Returns the fullest window above the warning threshold, whose reset the footer shows. */
function nearlyUsedUp(windows: QuotaWindow[]): QuotaWindow | undefined {
  const warned = windows.filter(({ usedRatio, resetsAt }) => (usedRatio ?? 0) >= WARN_AT && resetsAt !== null);
  return warned.sort((a, b) => (b.usedRatio ?? 0) - (a.usedRatio ?? 0))[0];
}

/** Formats the footer, `Kimi 5h 62% · wk 18% · resets 14:32`; undefined if no window is known. */
export function statusText(quota: Quota, theme?: Theme, now = Date.now()): string | undefined {
  const windows = footerWindows(quota.usage?.windows ?? []);
  if (windows.length === 0) return undefined;
  const stale = quota.problem !== null || now - (quota.fetchedAt ?? 0) > STALE_MS;
  const paint = (text: string, ratio = 0): string => {
    if (theme === undefined) return text;
    if (stale || ratio < WARN_AT) return theme.fg("dim", text);
    return theme.fg(ratio >= ALARM_AT ? "error" : "warning", text);
  };
  const parts = windows.map(({ short, usedRatio }) => paint(`${short} ${percent(usedRatio ?? 0)}`, usedRatio ?? 0));
  const next = nearlyUsedUp(windows) ?? windows.find(({ resetsAt }) => resetsAt !== null);
  if (next?.resetsAt && next.resetsAt > now) parts.push(paint(`resets ${clock(next.resetsAt, now)}`));
  if (stale) parts.push(paint(`as of ${clock(quota.fetchedAt ?? 0, now)}`));
  return `${paint("Kimi ")}${parts.join(paint(" · "))}`;
}

const EIGHTHS = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/** Draws a bar of exactly `columns` columns. */
export function bar(ratio: number, columns: number, paint = (text: string, _rest: boolean): string => text): string {
  const eighths = Math.round(Math.min(Math.max(ratio, 0), 1) * columns * 8);
  const filled = "█".repeat(Math.floor(eighths / 8)) + (EIGHTHS[eighths % 8] ?? "");
  return paint(filled, false) + paint("░".repeat(columns - filled.length), true);
}

/** Formats the quota as rows of at most `width` columns. */
export function quotaRows(quota: Quota, width: number, theme?: Theme, now = Date.now()): string[] {
  const windows = quota.usage?.windows ?? [];
  if (windows.length === 0) return ["No usage data."];
  const labels = Math.min(Math.max(...windows.map(({ label }) => label.length)), 28);
  const columns = Math.max(8, Math.min(30, width - labels - 36));
  const rows: string[] = [];
  for (const { label, usedRatio, used, limit, resetsAt, parts } of windows) {
    const name = label.slice(0, labels).padEnd(labels);
    const counted = used === null ? "" : limit === null ? `${used} used` : "";
    const measure = usedRatio === null ? counted.padEnd(columns) : coloredBar(usedRatio, columns, theme);
    const share = usedRatio === null ? "" : `${percent(usedRatio).padStart(4)} used`;
    const reset = resetsAt !== null && resetsAt > now ? `resets ${clock(resetsAt, now)}` : "";
    const wait = resetsAt !== null && resetsAt > now ? ` (in ${remaining(resetsAt - now)})` : "";
    const row = `${name}  ${measure} ${share}`;
    const end = width - labels - columns - 16 >= reset.length + wait.length ? reset + wait : reset;
    rows.push(`${row}  ${end}`.trimEnd());
    if (parts.length > 0) {
      rows.push(
        `${" ".repeat(labels + 2)}${parts.map((part) => `${part.label} ${percent(part.usedRatio)}`).join(" · ")}`,
      );
    }
  }
  return rows;
}

function coloredBar(ratio: number, columns: number, theme: Theme | undefined): string {
  if (theme === undefined) return bar(ratio, columns);
  const color = ratio >= ALARM_AT ? "error" : ratio >= WARN_AT ? "warning" : "accent";
  return bar(ratio, columns, (text, rest) => theme.fg(rest ? "dim" : color, text));
}

/** Formats how many requests run, `8 of 30 requests under way (5 here)`; undefined if none runs. */
export function parallelText({ parallel, underWayHere }: Quota): string | undefined {
  const { limit, inUse, waiting } = parallel;
  if (inUse === 0 && waiting === 0) return undefined;
  const of = limit === null ? "" : ` of ${limit}`;
  const queue = waiting === 0 ? "" : `, ${waiting} waiting`;
  return `${inUse}${of} requests under way (${underWayHere} here)${queue}`;
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

/**
 * Shows the output of a command, on stdout if there is no screen. Pi redirects what extensions write to `process.stdout`,
 * so it is written to the file descriptor.
 */
export function say(ctx: ExtensionContext, text: string): void {
  if (ctx.mode === "print") writeSync(1, `${text}\n`);
  else if (ctx.mode === "json") writeSync(1, `${JSON.stringify({ type: "kimi_text", text })}\n`);
  else ctx.ui.notify(text, "info");
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
  if (quota.problem !== null) rows.push(`As of ${clock(quota.fetchedAt ?? 0)}: ${quota.problem}`);
  // Without a color of its own, Pi would dim the text.
  return rows.map((row) => theme?.fg("text", row) ?? row).join("\n");
}

/** Returns the message of a failed query in place of its result. */
export function failure(error: unknown): { error: string } {
  return { error: error instanceof Error ? error.message : String(error) };
}
