/**
 * A warning for whoever runs Pi: on its screen, and on stderr where it has none. Pi's own `notify` says nothing in print and JSON
 * mode, and a script whose settings or whose addon are broken would fail without a reason.
 */

/** What we need of Pi's context. */
export interface WarningTarget {
  hasUI: boolean;
  ui: { notify(message: string, kind: "warning"): void };
}

export function warn({ hasUI, ui }: WarningTarget, text: string): void {
  ui.notify(text, "warning");
  if (!hasUI) process.stderr.write(`Warning: ${text}\n`);
}
