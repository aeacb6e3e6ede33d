/**
 * Finds the files that Pi put into a prompt for `pi @file …`: a text for each, and an image for those that it takes.
 *
 * A text file may contain what looks like another file. So only files count whose paths are arguments of the program.
 */
import { homedir } from "node:os";
import { resolve } from "node:path";

/** Beginning of a note in place of an image. */
const OMITTED = "[Image omitted";

/** A file in the text of a prompt. */
export interface InlinedFile {
  path: string;
  /** Where its text begins and ends, with `<file …>` and `</file>`. */
  start: number;
  end: number;
  /** What stands between both. */
  content: string;
  /** Pi took it for an image. */
  isImage: boolean;
  /** Position of its image among those of the prompt; undefined if there is none. */
  image: number | undefined;
  /** Pi read it as text, although it is none. */
  garbage: boolean;
}

/** The files in a prompt, and where the user's own text is. */
export interface InlinedFiles {
  files: InlinedFile[];
  /** Range of all of them. Their contents are not the user's words. */
  start: number;
  end: number;
}

/** Lists the files of the command line in the first prompt; undefined if there are none. */
export function inlinedFiles(text: string, args: readonly string[], cwd: string): InlinedFiles | undefined {
  const paths = args.filter((arg) => arg.startsWith("@")).map((arg) => absolute(arg.slice(1), cwd));
  const starts: { path: string; start: number }[] = [];
  let from = 0;
  for (const path of paths) {
    const start = text.indexOf(header(path), from);
    // Pi leaves out empty files.
    if (start < 0) continue;
    starts.push({ path, start });
    from = start + header(path).length;
  }
  const [first] = starts;
  const last = text.lastIndexOf("</file>");
  if (first === undefined || last < first.start) return undefined;
  const end = last + "</file>".length;
  let images = 0;
  const files = starts.map(({ path, start }, index): InlinedFile => {
    const limit = starts[index + 1]?.start ?? end;
    const content = text.slice(start + header(path).length, text.lastIndexOf("</file>", limit));
    // Text stands on lines of its own.
    const isText = content.startsWith("\n");
    const hasImage = !isText && !content.startsWith(OMITTED);
    return {
      path,
      start,
      end: index + 1 < starts.length ? text.lastIndexOf("</file>", limit) + "</file>".length : end,
      content,
      isImage: !isText,
      image: hasImage ? images++ : undefined,
      garbage: isText && ["\0", "\ufffd"].some((mark) => content.slice(0, 1000).includes(mark)),
    };
  });
  return { files, start: first.start, end };
}

/** Returns where the argument begins that ends the text; what a pipe brought stands before it. Without one, that is the end. */
export function argumentStart(text: string, args: readonly string[]): number {
  const lengths = args.filter((arg) => text.endsWith(arg)).map(({ length }) => length);
  return text.length - Math.max(0, ...lengths);
}

function header(path: string): string {
  return `<file name="${path}">`;
}

function absolute(path: string, cwd: string): string {
  return resolve(cwd, path.replace(/^~(?=$|[/\\])/, homedir));
}
