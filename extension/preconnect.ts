/**
 * Opens the connection to the service while the user types, so that a prompt does not wait for name resolution, TCP and TLS.
 */
import type { ExtensionAPI, ExtensionContext } from "@earendil-works/pi-coding-agent";
import type { PiCredentials } from "./credential.ts";
import { PROVIDER_ID } from "./ids.ts";
import { defer } from "./lazy.ts";
import type { AddonQueries } from "./queries.ts";

/** Servers close connections that are idle for about as long, in milliseconds. */
const IDLE_MS = 60_000;

/** Begins pasted text. */
const PASTE = "\u001b[200~";

/** Returns whether the user typed or pasted a character. Terminals also send answers to queries of Pi. */
const isTyped = (data: string): boolean => data >= " " || data.startsWith(PASTE);

/** Follows the keyboard of sessions with a screen. Only Pi's terminal calls the handler, never a headless mode. */
export function registerPreconnect(pi: ExtensionAPI, queries: AddonQueries, credentials: PiCredentials): void {
  let lastUse = -Infinity;
  let stop: (() => void) | undefined;
  const onInput = (ctx: ExtensionContext, data: string): undefined => {
    const now = performance.now();
    // Most keys end here.
    if (now - lastUse < IDLE_MS || !isTyped(data)) return;
    if (ctx.model?.provider !== PROVIDER_ID || !ctx.isIdle()) return;
    // Only where a credential is known to go, for which the footer's quota has asked: the other region is none of its business, and
    // looking for a credential here might refresh a login.
    const addresses = credentials.lastAddresses;
    if (addresses === undefined) return;
    lastUse = now;
    const { baseUrl } = ctx.model;
    defer(() => queries.preconnect({ baseUrl, ...addresses }));
  };
  pi.on("session_start", (_event, ctx) => {
    stop?.();
    stop = undefined;
    // Embedders may bring a screen of their own without it.
    if (!ctx.hasUI || typeof ctx.ui.onTerminalInput !== "function") return;
    stop = ctx.ui.onTerminalInput((data) => {
      try {
        return onInput(ctx, data);
      } catch {
        return undefined; // the context belongs to a session that has ended
      }
    });
  });
  pi.on("agent_end", () => {
    lastUse = performance.now();
  });
  pi.on("session_shutdown", () => {
    stop?.();
    stop = undefined;
  });
}
