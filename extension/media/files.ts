/**
 * Prepares images and videos on disk for a session. The addon reads and uploads them; a session holds references
 * (docs/architecture.md#media-by-reference).
 */
import type { ExtensionContext } from "@earendil-works/pi-coding-agent";
import type { PiCredentials } from "../credential.ts";
import type { Addon } from "../native/addon.ts";
import { type Caller, parseAnswer, requestText, withAbort } from "../native/call.ts";
import type { UserPaths } from "./user-paths.ts";

/** Time between two reports of the progress, in milliseconds. */
const PROGRESS_INTERVAL_MS = 250;

/** A file as a session refers to it. */
export interface PreparedMedia {
  /** `[video demo.mp4, 60.2 MB, 0:42]`. */
  text: string;
  /** The same with a reference, for the text of a user's message. */
  marker: string;
  /** The `details` of a result of our tool. */
  details: object;
  kind: "image" | "video";
  mimeType: string;
  bytes: number;
  lengthMs: number | null;
  /** Pi's own tools show this image as it is. */
  fitsPi: boolean;
  /** It was uploaded before. */
  known: boolean;
}

export interface PrepareOptions {
  /** Only checks the file. The turn of the prompt that refers to it uploads it. */
  deferred?: boolean;
  signal?: AbortSignal | undefined;
  /** Receives "uploading 12.3 MB of 60.2 MB (20 %, 3.1 MB/s)" while it is uploaded. */
  onProgress?: (text: string) => void;
}

/** The files of one extension. */
export class MediaFiles {
  readonly #addon: Addon;
  readonly #caller: Caller;
  readonly #credentials: PiCredentials;
  readonly #userPaths: UserPaths;

  constructor(addon: Addon, caller: Caller, credentials: PiCredentials, userPaths: UserPaths) {
    this.#addon = addon;
    this.#caller = caller;
    this.#credentials = credentials;
    this.#userPaths = userPaths;
  }

  /** Prepares the file at `path` for the selected model. Rejects with a `KimiError`. */
  async prepare(
    path: string,
    context: Pick<ExtensionContext, "cwd" | "model" | "modelRegistry">,
    { deferred = false, signal, onProgress }: PrepareOptions = {},
  ): Promise<PreparedMedia> {
    const credential = await this.#credentials.current(context);
    const file = { path, project: context.cwd, allowed: this.#userPaths.all, model: context.model?.id, deferred };
    const call = this.#addon.prepareMedia(requestText(this.#caller, { ...credential, ...file }));
    const report = (): void => {
      const text = call.progressText();
      if (text !== null) onProgress?.(text);
    };
    const timer = onProgress === undefined ? undefined : setInterval(report, PROGRESS_INTERVAL_MS);
    try {
      return await withAbort(
        signal,
        () => call.cancel(),
        async () => parseAnswer<PreparedMedia>(await call.result(), signal),
      );
    } finally {
      clearInterval(timer);
    }
  }
}
