/** Shows what commands say. */
import { writeSync } from "node:fs";
import type { ExtensionContext } from "@earendil-works/pi-coding-agent";

/**
 * Shows the output of a command, on stdout if there is no screen. Pi redirects what extensions write to `process.stdout`,
 * so it is written to the file descriptor.
 */
export function say(ctx: ExtensionContext, text: string): void {
  if (ctx.mode === "print") writeSync(1, `${text}\n`);
  else if (ctx.mode === "json") writeSync(1, `${JSON.stringify({ type: "kimi_text", text })}\n`);
  else ctx.ui.notify(text, "info");
}

/** Returns the message of a failed query in place of its result. */
export function failure(error: unknown): { error: string } {
  return { error: error instanceof Error ? error.message : String(error) };
}
