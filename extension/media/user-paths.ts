/**
 * Finds paths in what users write, and remembers them for the session.
 *
 * A file outside of the project may be read only if the user wrote its path. So texts of tools, models and other extensions must
 * never come here.
 */

/** Extensions of the types that Kimi takes. What a file really is, its bytes tell (docs/protocol.md#media-types). */
const EXTENSIONS = "mp4|m4v|mpeg|mpg|mov|webm|mkv|avi|flv|3gpp?|png|jpe?g|gif|webp|bmp|heic|heif";

/**
 * A path as users and terminals write it: quoted, with escaped blanks, or plain. The groups are the parts without quotes. The spaces that
 * are no end are those in the names of screenshots on macOS.
 */
const PATH = String.raw`"([^"\n]+)"|'([^'\n]+)'|((?:\\[^\n]|[\u00a0\u202f]|[^\s\\"'<>])+)`;

/** A path that begins a word, with or without Pi's `@`. */
const WORD = new RegExp(String.raw`(?<=^|[\s([{])(?![([{])(@?)(?:${PATH})`, "g");

const MEDIA = new RegExp(String.raw`\.(?:${EXTENSIONS})$`, "i");

/** A name that ends in front of text without a blank, as in `demo.mp4里`. */
const MEDIA_IN_TEXT = new RegExp(String.raw`^.*\.(?:${EXTENSIONS})(?=[\u0080-\uffff])`, "i");

/** Punctuation that ends a sentence and not a path. */
const TRAILING = /[.,;:!?)\]}。，、；：？！）】》」』…]+$/;

const ABSOLUTE = /^(?:\/|~[/\\]|file:\/\/|[A-Za-z]:[\\/])/;

/** Most paths that are remembered; the oldest one goes first. */
const MAX_PATHS = 200;

/** A path in a text. */
export interface WrittenPath {
  path: string;
  /** Where its text begins and ends, with `@` and quotes. */
  start: number;
  end: number;
  /** It was written with `@`, so it means the file and not only its name. */
  mentioned: boolean;
}

/** Returns whether the name is that of an image or video. */
export function hasMediaName(path: string): boolean {
  return MEDIA.test(path);
}

/** Lists the paths in a text: everything with `@`, and words that contain a slash or end like an image or video. */
export function writtenPaths(text: string): WrittenPath[] {
  const found: WrittenPath[] = [];
  for (const match of text.matchAll(WORD)) {
    const [whole, at, double, single, bare] = match;
    const plain = bare === undefined ? undefined : (MEDIA_IN_TEXT.exec(bare)?.[0] ?? bare.replace(TRAILING, ""));
    const path = double ?? single ?? unescaped(plain ?? "");
    const mentioned = at === "@";
    if (path === "" || !(mentioned || /[/\\]/.test(path) || hasMediaName(path))) continue;
    const end = match.index + (plain === undefined ? whole.length : (at ?? "").length + plain.length);
    found.push({ path, start: match.index, end, mentioned });
  }
  return found;
}

/** Lists the images and videos that a text refers to: with `@`, or by an absolute path, as pasted and dropped files are. */
export function mediaPaths(text: string): WrittenPath[] {
  return writtenPaths(text).filter(({ path, mentioned }) => hasMediaName(path) && (mentioned || ABSOLUTE.test(path)));
}

/** Removes the backslashes of a shell. On Windows they separate folders. */
function unescaped(text: string): string {
  return process.platform === "win32" ? text : text.replace(/\\(.)/g, "$1");
}

/** The paths that the user wrote in the session. */
export class UserPaths {
  readonly #paths = new Set<string>();

  /** Remembers the paths in a text of the user. */
  read(text: string): void {
    for (const { path } of writtenPaths(text)) this.add(path);
  }

  add(path: string): void {
    this.#paths.delete(path);
    this.#paths.add(path);
    for (const oldest of this.#paths) {
      if (this.#paths.size <= MAX_PATHS) break;
      this.#paths.delete(oldest);
    }
  }

  clear(): void {
    this.#paths.clear();
  }

  get all(): string[] {
    return [...this.#paths];
  }
}
