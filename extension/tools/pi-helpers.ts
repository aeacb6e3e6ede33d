/**
 * Collects what our tools use of Pi's packages.
 */
import type { PiModules } from "../pi-modules.ts";
import type { Component, PiParts } from "./render.ts";

/** What we use of pi-coding-agent. */
interface Agent {
  DEFAULT_MAX_BYTES: number;
  DEFAULT_MAX_LINES: number;
  formatSize(bytes: number): string;
  keyHint(keybinding: string, description: string): string;
  getMarkdownTheme(): unknown;
}

/** What we use of pi-tui. */
interface Tui {
  wrapTextWithAnsi(text: string, width: number): string[];
  truncateToWidth(text: string, width: number, ellipsis?: string): string;
  Markdown: new (text: string, paddingX: number, paddingY: number, theme: unknown) => Component;
}

/** Picks the helpers out of Pi's packages. */
export function piParts(modules: Pick<PiModules, "agent" | "tui">): PiParts {
  // By way of "unknown", because the types differ between versions of Pi.
  const { agent, tui } = modules as unknown as { agent: Agent; tui: Tui };
  return {
    maxBytes: agent.DEFAULT_MAX_BYTES,
    maxLines: agent.DEFAULT_MAX_LINES,
    formatSize: agent.formatSize,
    keyHint: agent.keyHint,
    wrap: tui.wrapTextWithAnsi,
    truncate: (text, width, ellipsis) => tui.truncateToWidth(text, width, ellipsis),
    markdown: (text) => new tui.Markdown(text, 0, 0, agent.getMarkdownTheme()),
  };
}
