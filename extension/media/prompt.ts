/**
 * Rewrites prompts that refer to images and videos on disk: a marker follows each path, and the addon sends the file with the prompt
 * (docs/tools.md#images-and-videos-on-disk).
 */
import type { ExtensionContext, InputEvent, InputEventResult } from "@earendil-works/pi-coding-agent";
import { KimiError } from "../errors.ts";
import { warn } from "../warning.ts";
import { takesMedia } from "../models.ts";
import type { MediaFiles, PreparedMedia } from "./files.ts";
import { argumentStart, type InlinedFile, type InlinedFiles, inlinedFiles } from "./inlined.ts";
import { hasMediaName, mediaPaths, type UserPaths } from "./user-paths.ts";

/** The marker behind a path of a prompt that the user edits and sends again. */
const OLD_MARKER = /^ \[(?:image|video) [^\]\n]*\]\(kimi-media:\w+:[\da-f]{64}\)/;

/** Errors that the turn itself will report, or that only say that a path in a sentence is no file. */
const BAD_FILE = ["bad_media", "bad_request", "io"];

/** A part of the prompt that is replaced. */
interface PromptChange {
  start: number;
  end: number;
  text: string;
}

/** The prompts of one extension. */
export class Prompts {
  readonly #files: MediaFiles;
  readonly #userPaths: UserPaths;
  #isFirst = true;

  constructor(files: MediaFiles, userPaths: UserPaths) {
    this.#files = files;
    this.#userPaths = userPaths;
  }

  /** Returns the prompt as the model should get it; undefined if it stays as it is. */
  async rewrite(event: InputEvent, context: ExtensionContext): Promise<InputEventResult | undefined> {
    // Other extensions pass on what models and tools wrote.
    if (event.source === "extension") return undefined;
    const isFirst = this.#isFirst;
    this.#isFirst = false;
    const inlined = isFirst ? inlinedFiles(event.text, process.argv, context.cwd) : undefined;
    for (const { path } of inlined?.files ?? []) this.#userPaths.add(path);
    const begin = isFirst && isPiped(context) ? argumentStart(event.text, process.argv) : 0;
    const own = blanked(blanked(event.text, inlined), { start: 0, end: begin });
    this.#userPaths.read(own);
    if (!takesMedia(context.model)) return undefined;
    const images = [...(event.images ?? [])];
    const dropped = new Set<number>();
    const changes = await Promise.all([
      ...(inlined?.files ?? []).map((file) => this.#inlined(file, context, dropped)),
      ...mediaPaths(own).map(async ({ path, end, mentioned }): Promise<PromptChange | undefined> => {
        const media = await this.#prepare(path, context, mentioned);
        if (typeof media !== "object" || media.fitsPi) return undefined;
        const old = OLD_MARKER.exec(own.slice(end))?.[0].length ?? 0;
        return { start: end, end: end + old, text: ` ${media.marker}` };
      }),
    ]);
    const wanted = changes.filter((change) => change !== undefined).sort((one, other) => other.start - one.start);
    if (wanted.length === 0) return undefined;
    const text = wanted.reduce((all, { start, end, text }) => all.slice(0, start) + text + all.slice(end), event.text);
    return { action: "transform", text, images: images.filter((_, position) => !dropped.has(position)) };
  }

  /** Replaces a file that Pi put into the prompt as garbage, or whose image it shrinks. */
  async #inlined(
    file: InlinedFile,
    context: ExtensionContext,
    dropped: Set<number>,
  ): Promise<PromptChange | undefined> {
    const { path, start, end, garbage, isImage, image } = file;
    if (!isImage && !garbage) return undefined;
    const media = await this.#prepare(path, context, hasMediaName(path));
    const within = (text: string): PromptChange => ({ start, end, text: `<file name="${path}">${text}</file>` });
    if (typeof media !== "object") {
      return garbage && hasMediaName(path) ? within(`(omitted: ${media ?? "it cannot be shown"})`) : undefined;
    }
    if (media.fitsPi) return undefined;
    if (image !== undefined) dropped.add(image);
    return within(media.marker);
  }

  /** Returns the file, or why it cannot be shown. Warns about a file that the user certainly meant. */
  async #prepare(path: string, context: ExtensionContext, meant: boolean): Promise<PreparedMedia | string | undefined> {
    try {
      return await this.#files.prepare(path, context, { deferred: true });
    } catch (error) {
      if (!(error instanceof KimiError) || !BAD_FILE.includes(error.code)) return undefined;
      if (meant || error.code === "bad_media") warn(context, `Kimi does not get this file: ${error.message}`);
      return error.message;
    }
  }
}

/** Whether Pi puts what it read from a pipe in front of the first prompt. */
function isPiped({ mode }: Pick<ExtensionContext, "mode">): boolean {
  return (mode === "print" || mode === "json") && !process.stdin.isTTY;
}

/** Returns the text with blanks in place of a range, so that positions stay. */
function blanked(text: string, range: Pick<InlinedFiles, "start" | "end"> | undefined): string {
  if (range === undefined) return text;
  const { start, end } = range;
  return text.slice(0, start) + " ".repeat(end - start) + text.slice(end);
}
