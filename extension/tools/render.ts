/**
 * Renders calls and results of Kimi's tools as lines that fit the screen, without control characters.
 */
import type { AgentToolResult, ExtensionContext, Theme } from "@earendil-works/pi-coding-agent";
import type { KimiServices, ServiceOptions } from "../services.ts";

/** A component of Pi's terminal library, as our own ones implement it. */
export interface Component {
  render(width: number): string[];
  invalidate(): void;
}

/** What the tools use of Pi at run time; see pi-helpers.ts. */
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
  /** Returns whether this tool's results start collapsed. */
  collapsed(name: string): boolean;
  /** Returns the call options of the session: Pi's credential, and the limits of a tool's output. */
  session(
    context: ExtensionContext,
  ): Promise<Pick<ServiceOptions, "credential" | "baseUrl" | "modelsJsonBaseUrl" | "limit">>;
}

/** One paragraph. */
export interface Line {
  text: string;
  /** Columns in front of each of its rows. */
  indent?: number;
  /** Cuts the text to one row instead of wrapping it. */
  single?: boolean;
}

/** Paragraphs, wrapped or cut to the width. Rows are cached until width or content change. */
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
    // A narrow screen has no room for an indent.
    const margin = width > indent + 8 ? indent : 0;
    const room = Math.max(1, width - margin);
    const rows = single ? [text] : this.#parts.wrap(text, room);
    return rows.map((row) => " ".repeat(margin) + this.#parts.truncate(row, room, single ? "…" : ""));
  }
}

/** Returns the component of the last rendering if it is one of ours, else a new one. */
export function lines(parts: PiParts, context: { lastComponent: unknown }): Lines {
  return context.lastComponent instanceof Lines ? context.lastComponent : new Lines(parts);
}

// Control characters, and marks that change the direction of text.
// oxlint-disable-next-line no-control-regex
const UNSAFE = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/** Removes from foreign text what moves the cursor; tabs become spaces. */
export function safe(text: unknown): string {
  return String(text ?? "")
    .replaceAll("\r\n", "\n")
    .replace(UNSAFE, "")
    .replaceAll("\t", "   ");
}

/** Puts foreign text on one line. */
export function oneLine(text: unknown): string {
  return safe(text).replace(/\s+/g, " ").trim();
}

/** Formats the first line of a call: the tool's name and its subject. */
export function callLine(theme: Theme, name: string, subject: unknown): Line {
  const text = oneLine(typeof subject === "string" ? subject : "");
  return { text: `${theme.fg("toolTitle", theme.bold(name))} ${theme.fg("accent", text === "" ? "…" : text)}` };
}

/** What newer versions of Pi add to the context of renderers. */
export interface RenderContext {
  /** Formats a key of the user (Pi 1.5 and later). An imported function may belong to another copy of Pi's package. */
  keyHint?: PiParts["keyHint"];
}

/** Formats a line with `text` and the key that expands the result. */
export function hint(parts: PiParts, theme: Theme, context: object, text: string): Line {
  const keyHint = (context as RenderContext).keyHint ?? parts.keyHint;
  const key = keyHint("app.tools.expand", "to expand");
  return { text: `${theme.fg("muted", `${text} (`)}${key}${theme.fg("muted", ")")}` };
}

/** Formats a count, `1 result` or `2 results`. */
export function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

/** Builds the result of a tool: text for the model, details for the screen, data for scripts (Pi 1.3 and later). */
export function toolResult<D extends { notes: readonly string[] }>(
  text: string,
  details: D,
  structuredContent: object,
): AgentToolResult<D> & { structuredContent: never } {
  const parts = [text, ...details.notes].filter((part) => part.trim() !== "");
  // Absent in the types of older versions and plain JSON in those of newer ones, which `never` fits both.
  const data = JSON.parse(JSON.stringify(structuredContent)) as never;
  return { content: [{ type: "text", text: parts.join("\n\n") }], details, structuredContent: data };
}

/** Returns the text of a result as the model got it. */
export function resultText(result: AgentToolResult<unknown>): string {
  return result.content.map((part) => (part.type === "text" ? part.text : "")).join("\n");
}

/** How a plain text is shortened while collapsed. */
export interface Preview {
  rows: number;
  parts: PiParts;
  /** Text at which the preview ends. */
  until?: string | undefined;
}

/** Formats a plain text, or its first rows. Used for errors and for results of other versions of this package. */
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
  const more = hidden > 0 ? [hint(preview.parts, theme, context, count(hidden, "more line"))] : [];
  return [...paint(rows.slice(0, preview.rows), true), ...more];
}
