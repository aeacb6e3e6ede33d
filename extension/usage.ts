/**
 * The quota where people see it: the footer, `/kimi-usage`, and the rows of `/kimi-settings`. Loaded when one of them is shown.
 *
 * Dates are put together by hand: the first use of `Intl` costs tens of milliseconds on the thread that draws.
 */
import { writeSync } from "node:fs";
import type { ExtensionCommandContext, ExtensionContext, Theme } from "@earendil-works/pi-coding-agent";
import type { Facts, Profile, Quota, QuotaWindow, Wallet } from "./facts.ts";
import { PROVIDER_ID } from "./models.ts";
import { credentialOf } from "./session.ts";

/** Shortest time between two questions, over all processes of this person. */
const REFRESH_MS = 90_000;

/** A quota older than this is shown dimmed. */
const STALE_MS = 10 * 60_000;

const WARN_AT = 0.8;
const ALARM_AT = 0.95;
const STATUS_KEY = "kimi-usage";

const DAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/** `62%`; something that is used never reads as nothing, and something that is left never as all. */
function percent(ratio: number): string {
  const exact = ratio * 100;
  if (exact > 0 && exact < 1) return "1%";
  if (exact > 99 && exact < 99.95) return "99%";
  return `${Math.min(Math.round(exact), 999)}%`;
}

/** `14:32`, `Fri 14:32`, `Dec 12, 14:32`, in the person's own time. */
export function clock(at: number, now = Date.now()): string {
  const then = new Date(at);
  const time = [then.getHours(), then.getMinutes()].map((part) => String(part).padStart(2, "0")).join(":");
  if (then.toDateString() === new Date(now).toDateString()) return time;
  if (at - now < 6 * 86_400_000) return `${DAYS[then.getDay()]} ${time}`;
  return `${MONTHS[then.getMonth()]} ${then.getDate()}, ${time}`;
}

/** `12 min`, `1 h 12 min`, `4 d 23 h`. */
export function remaining(ms: number): string {
  const minutes = Math.max(0, Math.ceil(ms / 60_000));
  const [days, hours, rest] = [Math.floor(minutes / 1440), Math.floor(minutes / 60) % 24, minutes % 60];
  if (days > 0) return hours > 0 ? `${days} d ${hours} h` : `${days} d`;
  if (hours > 0) return rest > 0 ? `${hours} h ${rest} min` : `${hours} h`;
  return `${rest} min`;
}

/** The windows that belong into one line: the short and the weekly one, and whatever is nearly used up. */
function essential(windows: QuotaWindow[]): QuotaWindow[] {
  const known = windows.filter(({ usedRatio }) => usedRatio !== null);
  const chosen = known.filter(({ id, usedRatio }) => id === "5h" || id === "7d" || (usedRatio ?? 0) >= WARN_AT);
  return chosen.length > 0 ? chosen : known.slice(0, 2);
}

/** The fullest window of those that are worth a warning: its reset is the one that matters. */
function nearlyUsedUp(windows: QuotaWindow[]): QuotaWindow | undefined {
  const warned = windows.filter(({ usedRatio, resetsAt }) => (usedRatio ?? 0) >= WARN_AT && resetsAt !== null);
  return warned.sort((a, b) => (b.usedRatio ?? 0) - (a.usedRatio ?? 0))[0];
}

/** `Kimi 5h 62% · wk 18% · resets 14:32`; undefined if there is nothing to say. */
export function statusText(quota: Quota, theme?: Theme, now = Date.now()): string | undefined {
  const windows = essential(quota.usage?.windows ?? []);
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

/** A bar of exactly `columns` columns. */
export function bar(ratio: number, columns: number, paint = (text: string, _rest: boolean): string => text): string {
  const eighths = Math.round(Math.min(Math.max(ratio, 0), 1) * columns * 8);
  const filled = "█".repeat(Math.floor(eighths / 8)) + (EIGHTHS[eighths % 8] ?? "");
  return paint(filled, false) + paint("░".repeat(columns - filled.length), true);
}

/** The quota as rows for a screen of this width. */
export function quotaRows(quota: Quota, width: number, theme?: Theme, now = Date.now()): string[] {
  const windows = quota.usage?.windows ?? [];
  if (windows.length === 0) return ["No usage data."];
  const labels = Math.min(Math.max(...windows.map(({ label }) => label.length)), 28);
  const columns = Math.max(8, Math.min(30, width - labels - 36));
  const rows: string[] = [];
  for (const { label, usedRatio, used, limit, resetsAt, parts } of windows) {
    const name = label.slice(0, labels).padEnd(labels);
    const counted = used === null ? "" : limit === null ? `${used} used` : "";
    const measure = usedRatio === null ? counted.padEnd(columns) : painted(usedRatio, columns, theme);
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

function painted(ratio: number, columns: number, theme: Theme | undefined): string {
  if (theme === undefined) return bar(ratio, columns);
  const colour = ratio >= ALARM_AT ? "error" : ratio >= WARN_AT ? "warning" : "accent";
  return bar(ratio, columns, (text, rest) => theme.fg(rest ? "dim" : colour, text));
}

export function walletRows(wallet: Wallet): string[] {
  const limit = wallet.monthlyLimit === null ? "unlimited" : wallet.monthlyLimit.text;
  const spent = wallet.usedThisMonth === null ? "" : ` · ${wallet.usedThisMonth.text} of ${limit} this month`;
  return [`Extra usage  ${wallet.balance.text} left${spent}`];
}

/** `Simulated User · Allegretto (Lv 20) · sim@example.invalid` */
export function accountText({ name, plan, level, email }: Profile): string {
  const rank = plan === null ? undefined : level !== null ? `${plan} (Lv ${level})` : plan;
  return [name, rank, email].filter((part) => part).join(" · ");
}

/**
 * Prints where there is no screen; a screen shows it as a message. Written to the descriptor itself: Pi sends what its extensions
 * write to `process.stdout` elsewhere, because that may be a protocol, and here it is the answer that was asked for.
 */
export function say(ctx: ExtensionContext, text: string): void {
  if (ctx.mode === "print") writeSync(1, `${text}\n`);
  else if (ctx.mode === "json") writeSync(1, `${JSON.stringify({ type: "kimi_text", text })}\n`);
  else ctx.ui.notify(text, "info");
}

/** Shows the quota in the footer, or takes it away. Fails where there is no credential, or a session that has ended. */
export async function showQuota(facts: Facts, ctx: ExtensionContext): Promise<void> {
  if (ctx.model?.provider !== PROVIDER_ID || !facts.settings().settings.statusLine) {
    return ctx.ui.setStatus(STATUS_KEY, undefined);
  }
  const quota = await facts.quota(await credentialOf(ctx), REFRESH_MS);
  const theme = ctx.mode === "tui" ? ctx.ui.theme : undefined;
  ctx.ui.setStatus(STATUS_KEY, statusText(quota, theme));
}

/** `/kimi-usage [--json]` */
export async function kimiUsage(args: string, ctx: ExtensionCommandContext, facts: Facts): Promise<void> {
  say(ctx, await usageText(facts, ctx, args.split(/\s+/).includes("--json")));
}

async function usageText(facts: Facts, ctx: ExtensionCommandContext, json: boolean): Promise<string> {
  const credential = await credentialOf(ctx).catch(() => ({}));
  const [quota, profile] = await Promise.all([
    facts.quota(credential).catch(failure),
    facts.profile(credential).catch(failure),
  ]);
  if (json) return JSON.stringify({ account: profile, quota });
  const theme = ctx.mode === "tui" ? ctx.ui.theme : undefined;
  const rows: string[] = [];
  rows.push("error" in profile ? `Account: ${profile.error}` : accountText(profile));
  if ("error" in quota) return [...rows, `Usage: ${quota.error}`].join("\n");
  rows.push(...quotaRows(quota, Math.min(process.stdout.columns || 100, 100), theme));
  if (quota.usage?.wallet) rows.push(...walletRows(quota.usage.wallet));
  if (quota.problem !== null) rows.push(`As of ${clock(quota.fetchedAt ?? 0)}: ${quota.problem}`);
  // Pi would dim it all, and what an answer looks like is not a side note.
  return rows.map((row) => theme?.fg("text", row) ?? row).join("\n");
}

export function failure(error: unknown): { error: string } {
  return { error: error instanceof Error ? error.message : String(error) };
}
