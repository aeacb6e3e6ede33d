/**
 * Runs `/kimi-quota`: shows which requests wait for a quota window, and decides about them. Loaded on first use.
 */
import type { ExtensionCommandContext } from "@earendil-works/pi-coding-agent";
import { failure, say } from "../command-output.ts";
import type { PiCredentials } from "../credential.ts";
import type { AddonQueries, Credential, ParkState } from "../queries.ts";

const CHOICES = ["wait", "stop", "resume"] as const;

type Choice = (typeof CHOICES)[number];

/** Runs `/kimi-quota [wait|stop|resume|--json]`. */
export async function kimiQuota(
  args: string,
  ctx: ExtensionCommandContext,
  queries: AddonQueries,
  credentials: PiCredentials,
): Promise<void> {
  const words = args.split(/\s+/).filter((word) => word !== "");
  const json = words.includes("--json");
  const [wanted, ...rest] = words.filter((word) => word !== "--json");
  const choice = CHOICES.find((each) => each === wanted);
  if (rest.length > 0 || (wanted !== undefined && choice === undefined)) {
    return say(ctx, "Usage: /kimi-quota [wait|stop|resume] [--json]");
  }
  const credential = await credentials.current(ctx).catch(() => ({}));
  const result = await run(queries, credential, choice).catch(failure);
  if ("error" in result) return say(ctx, json ? JSON.stringify(result) : result.error);
  const { text, ...state } = result;
  say(ctx, json ? JSON.stringify(state) : text);
}

/** Applies the choice, if there is one. Requests notice it within a second, so the number is that of before. */
async function run(queries: AddonQueries, credential: Credential, choice: Choice | undefined): Promise<ParkState> {
  const before = await queries.parked(credential);
  if (choice === undefined) return before;
  const after = await queries.chooseQuota(credential, choice);
  return { ...after, text: outcome(choice, before) };
}

function outcome(choice: Choice, { sessions, text }: ParkState): string {
  const requests = sessions === 1 ? "1 request" : `${sessions} requests`;
  // The choice is about the window that is used up now, or about the next one.
  const then = (what: string): string =>
    `${text} Where you would be asked, requests of the next window that is used up ${what}; quota.onExhausted decides for later ones.`;
  if (choice === "wait") return sessions === 0 ? then("wait") : text;
  if (sessions === 0) return choice === "stop" ? then("fail") : text;
  return choice === "stop" ? `Stopped ${requests}.` : `${requests} ${sessions === 1 ? "tries" : "try"} again now.`;
}
