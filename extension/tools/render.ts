/**
 * How Kimi's tools look in Pi: lines that never exceed the screen, whatever the web puts into them.
 */
import type { AgentToolResult, ExtensionContext, Theme } from "@earendil-works/pi-coding-agent";
import type { KimiServices, ServiceOptions } from "../services.ts";

/** A component of Pi's terminal library, as far as we make our own. */
export interface Component {
  render(width: number): string[];
  invalidate(): void;
}

/** What we use of Pi at run time. Reached dynamically, because plain Node programs load our files without Pi. */
export interface PiParts {
  maxBytes: number;
  maxLines: number;
  formatSize(bytes: number): string;
  keyHint(keybinding: "app.tools.expand", description: string): string;
  wrap(text: string, width: number): string[];
  truncate(text: string, width: number, ellipsis: string): string;
  markdown(text: string): Component;
}

/** What a tool works with. */
export interface ToolParts {
  services: KimiServices;
  parts: PiParts;
  /** Whether this tool's results start as a preview. */
  collapsed(name: string): boolean;
  /** Call options that come from the session: the login that Pi uses for the chat, and the limits of a tool's output. */
  session(context: ExtensionContext): Promise<Pick<ServiceOptions, "credential" | "baseUrl" | "limit">>;
}

/** One paragraph. */
export interface Line {
  text: string;
  /** Columns in front of each of its rows. */
  indent?: number;
  /** One row, cut at the edge. */
  single?: boolean;
}

/** Paragraphs, wrapped or cut to the width. Rows are kept until width or content change. */
export class Lines implements Component {
  readonly #parts: PiParts;
  #lines: Line[] = [];
  #rows: string[] | undefined;
  #width = 0;

  constructor(parts: PiParts) {
    this.#parts = parts;
  }

  set(lines: Line[]): this {
    this.#lines = lines;
    this.#rows = undefined;
    return this;
  }

  invalidate(): void {
    this.#rows = undefined;
  }

  render(width: number): string[] {
    if (this.#rows === undefined || this.#width !== width) {
      this.#width = width;
      this.#rows = this.#lines.flatMap((line) => this.#row(line, width));
    }
    return this.#rows;
  }

  #row({ text, indent = 0, single }: Line, width: number): string[] {
    // On a sliver of a screen there is no room for an indent.
    const margin = width > indent + 8 ? indent : 0;
    const room = Math.max(1, width - margin);
    const rows = single ? [text] : this.#parts.wrap(text, room);
    return rows.map((row) => " ".repeat(margin) + this.#parts.truncate(row, room, single ? "…" : ""));
  }
}

/** The component of the last time, if it is one of ours. */
export function lines(parts: PiParts, context: { lastComponent: Component | undefined }): Lines {
  return context.lastComponent instanceof Lines ? context.lastComponent : new Lines(parts);
}

// Control characters and the marks that reverse the direction of what follows.
// oxlint-disable-next-line no-control-regex
const UNSAFE = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/** Foreign text without anything that moves the cursor; tabs become spaces. */
export function safe(text: unknown): string {
  return String(text ?? "")
    .replaceAll("\r\n", "\n")
    .replace(UNSAFE, "")
    .replaceAll("\t", "   ");
}

/** Foreign text on one line. */
export function oneLine(text: unknown): string {
  return safe(text).replace(/\s+/g, " ").trim();
}

/** First line of a call: the tool's name, and what it was asked. */
export function callLine(theme: Theme, name: string, subject: unknown): Line {
  const text = oneLine(typeof subject === "string" ? subject : "");
  return { text: `${theme.fg("toolTitle", theme.bold(name))} ${theme.fg("accent", text === "" ? "…" : text)}` };
}

/** `text` on a line of its own, with the key that shows more. */
export function hint(parts: PiParts, theme: Theme, text: string): Line {
  const key = parts.keyHint("app.tools.expand", "to expand");
  return { text: `${theme.fg("muted", `${text} (`)}${key}${theme.fg("muted", ")")}` };
}

/** `1 result`, `2 results`. */
export function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

/** The answer and its notes, the way a model reads them. */
export function modelText(text: string, notes: readonly string[]): string {
  return [text, ...notes].filter((part) => part.trim() !== "").join("\n\n");
}

/** Text of a result, as the model got it. */
export function resultText(result: AgentToolResult<unknown>): string {
  return result.content.map((part) => (part.type === "text" ? part.text : "")).join("\n");
}

/** What a preview of plain text holds. */
export interface Preview {
  rows: number;
  parts: PiParts;
  /** Where what is worth previewing ends. */
  until?: string | undefined;
}

/** Plain text; the first rows of it while collapsed. Errors and results of other versions of ours look like this. */
export function plainText(
  result: AgentToolResult<unknown>,
  theme: Theme,
  context: { isError: boolean },
  preview: Preview | undefined,
): Line[] {
  const text = resultText(result);
  const color = context.isError ? "error" : "toolOutput";
  const paint = (rows: string[], single: boolean): Line[] =>
    rows.map((row) => ({ text: theme.fg(color, row), single }));
  if (preview === undefined) return paint(safe(text).trim().split("\n"), false);
  const end = preview.until === undefined ? -1 : text.indexOf(preview.until);
  const rows = safe(end < 0 ? text : text.slice(0, end))
    .split("\n")
    .filter((row) => row.trim() !== "");
  const hidden = rows.length - preview.rows;
  const more = hidden > 0 ? [hint(preview.parts, theme, count(hidden, "more line"))] : [];
  return [...paint(rows.slice(0, preview.rows), true), ...more];
}
