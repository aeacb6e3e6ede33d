/** Runs `/kimi-cache [--last n] [--json]` in Pi. Loaded on first use. */
import type { ExtensionAPI, ExtensionCommandContext } from "@earendil-works/pi-coding-agent";
import { failure, say } from "../command-output.ts";
import type { AddonQueries } from "../queries.ts";
import { cacheRows } from "./table.ts";
import { toolSource } from "./tool-source.ts";

/** Requests that are shown if not asked otherwise. */
const SHOWN_REQUESTS = 10;

const USE = "Use: /kimi-cache [--last n] [--json]";

/** The word that begins a new session with the rest as its first message. */
export const NEW_SESSION = "--new";

/** Runs the command. */
export async function kimiCache(
  args: string,
  ctx: ExtensionCommandContext,
  queries: AddonQueries,
  pi: ExtensionAPI,
): Promise<void> {
  const text = args.trim();
  if (text.startsWith(`${NEW_SESSION} `)) return beginSession(text.slice(NEW_SESSION.length).trim(), ctx);
  const words = text.split(/\s+/).filter(Boolean);
  let last: number | undefined;
  let json = false;
  while (words.length > 0) {
    const word = words.shift();
    if (word === "--json") json = true;
    else if (word === "--last" && /^[1-9]\d{0,3}$/.test(words[0] ?? "")) last = Number(words.shift());
    else return say(ctx, word === "--last" ? `--last needs a number. ${USE}` : `${word} is unknown. ${USE}`);
  }
  try {
    const shown = last ?? (json ? undefined : SHOWN_REQUESTS);
    const report = await queries.promptCache(ctx.sessionManager.getSessionId(), shown);
    if (json) return say(ctx, JSON.stringify(report));
    const theme = ctx.mode === "tui" ? ctx.ui.theme : undefined;
    const rows = cacheRows(report, theme, (cause) => toolSource(pi, cause));
    // Without a color of its own, Pi would dim the text.
    say(ctx, rows.map((row) => theme?.fg("text", row) ?? row).join("\n"));
  } catch (error) {
    say(ctx, failure(error).error);
  }
}

async function beginSession(message: string, ctx: ExtensionCommandContext): Promise<void> {
  await ctx.newSession({ withSession: async (session) => session.sendUserMessage(message) });
}
