/**
 * Warns the user of Pi.
 */

/** What we use of Pi's context. */
export interface WarningTarget {
  hasUI: boolean;
  ui: { notify(message: string, kind: "warning"): void };
}

/** Shows a warning on Pi's screen, or writes it to stderr if there is none: `notify` does nothing in print and JSON mode. */
export function warn({ hasUI, ui }: WarningTarget, text: string): void {
  ui.notify(text, "warning");
  if (!hasUI) process.stderr.write(`Warning: ${text}\n`);
}
