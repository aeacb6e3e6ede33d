/**
 * Asks once what to do with a prompt whose cache has expired in a pause: compact, begin a new session, or go on. Loaded when the
 * user sends something.
 */
import type { ExtensionAPI, ExtensionContext, InputEvent, InputEventResult } from "@earendil-works/pi-coding-agent";
import type { PiCredentials } from "../credential.ts";
import type { AddonQueries, ExpiredCache } from "../queries.ts";
import { NEW_SESSION } from "./command.ts";
import { tokensText } from "./table.ts";

const COMPACT = "Compact, then send";
const NEW = "New session";
const CONTINUE = "Continue";

/** Longest time that a message waits for the records, in milliseconds. */
const RECORDS_TIMEOUT_MS = 1000;

/** Asks about expired prompts of one Pi. */
export class ExpiryQuestion {
  readonly #pi: ExtensionAPI;
  readonly #queries: AddonQueries;
  readonly #credentials: PiCredentials;
  /** Session and request that were asked about. */
  #asked = "";

  constructor(pi: ExtensionAPI, queries: AddonQueries, credentials: PiCredentials) {
    this.#pi = pi;
    this.#queries = queries;
    this.#credentials = credentials;
  }

  /** Handles a message of the user. */
  async input(event: InputEvent, ctx: ExtensionContext): Promise<InputEventResult> {
    const session = ctx.sessionManager.getSessionId();
    const expired = await this.#expired(ctx, session).catch(() => null);
    if (expired === null || this.#asked === `${session} ${expired.at}`) return { action: "continue" };
    this.#asked = `${session} ${expired.at}`;
    const choice = await ctx.ui.select(questionText(expired), [COMPACT, NEW, CONTINUE]);
    switch (choice) {
      case CONTINUE:
        return { action: "continue" };
      case COMPACT:
        this.#compact(event, ctx);
        return { action: "handled" };
      case NEW:
        giveBack(
          ctx,
          `/kimi-cache ${NEW_SESSION} ${event.text}`,
          "Press Enter to begin a new session with this message.",
        );
        return { action: "handled" };
      default:
        // Not answered: nothing is sent, and the message is not lost.
        giveBack(ctx, event.text, "Not sent; your message is back in the editor.");
        return { action: "handled" };
    }
  }

  async #expired(ctx: ExtensionContext, session: string): Promise<ExpiredCache | null> {
    const { model } = ctx;
    if (model === undefined) return null;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<null>((resolve) => {
      timer = setTimeout(() => resolve(null), RECORDS_TIMEOUT_MS);
    });
    const ask = async (): Promise<ExpiredCache | null> => {
      const credential = await this.#credentials.current(ctx).catch(() => ({}));
      return this.#queries.expiredCache(credential, session, model.id);
    };
    return Promise.race([ask(), late]).finally(() => clearTimeout(timer));
  }

  #compact({ text, images = [] }: InputEvent, ctx: ExtensionContext): void {
    ctx.compact({
      onComplete: () => {
        this.#pi.sendUserMessage(images.length === 0 ? text : [{ type: "text", text }, ...images]);
      },
      onError: (error) => {
        giveBack(ctx, text, `Not compacted, and your message was not sent: ${error.message}`, "error");
      },
    });
  }
}

/** Puts a message into the editor. Pi draws it there with the notice. */
function giveBack(ctx: ExtensionContext, text: string, notice: string, type: "info" | "error" = "info"): void {
  try {
    ctx.ui.setEditorText(text);
    ctx.ui.notify(notice, type);
  } catch {
    // The session has ended.
  }
}

/** Formats the question. */
export function questionText({ sinceMs, tokens, window, percent }: ExpiredCache): string {
  const share = window === undefined || percent === undefined ? "" : ` (≈ ${percent} % of ${window})`;
  const minutes = Math.max(1, Math.floor(sinceMs / 60_000));
  const [hours, rest] = [Math.floor(minutes / 60), minutes % 60];
  const ago = hours === 0 ? `${rest} min` : `${hours} h ${rest} min`;
  return `Kimi: the cache expired ${ago} ago: ${tokensText(tokens)} tokens will be read again${share}`;
}
