/**
 * Files that messages refer to. The addon does everything; what is here brings it the bytes without holding up the program.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { Addon, FileUpload } from "../native/addon.ts";
import { answerValue, type Cancellable, kimiError } from "./errors.ts";

/** Path, `file:` URL, or the bytes themselves. */
export type FileSource = string | URL | Uint8Array | ArrayBuffer | Blob;

export interface UploadOptions extends Cancellable {
  /** What it is for; found out from the bytes. Given, it is insisted upon. */
  purpose?: "image" | "video";
  /** Only for types that the bytes do not tell. */
  mimeType?: string;
  /** Uploads the file even if it is known: for an id that the service has forgotten. */
  again?: boolean;
  /** How much is under way, about ten times a second and once at the end. Not called for a file that is known. */
  onProgress?: (progress: { sent: number; total: number }) => void;
}

/** A file that the service has. */
export interface UploadedFile {
  id: string;
  /** `ms://…`: the URL of an `image_url` or `video_url` part. */
  url: string;
  purpose: "image" | "video";
  /** The real one. */
  mimeType: string;
  /** The name that the service knows it by. */
  filename: string;
  bytes: number;
  /** It was there already: nothing was uploaded. */
  known: boolean;
}

/** Bytes copied at once. */
const CHUNK_BYTES = 1 << 20;

const PROGRESS_INTERVAL_MS = 100;

/** Made by `new Kimi()`. */
export class KimiFiles {
  readonly #addon: Addon;
  readonly #context: () => object;

  /** @internal */
  constructor(addon: Addon, context: () => object) {
    this.#addon = addon;
    this.#context = context;
  }

  /**
   * Uploads an image or video of at most 100 MiB, once per account: the same content is found again by every program of this
   * machine, Pi included. Rejects with a `KimiError`.
   */
  async upload(file: FileSource, options: UploadOptions = {}): Promise<UploadedFile> {
    const { signal, purpose, again, onProgress } = options;
    const isPath = typeof file === "string" || file instanceof URL;
    const mimeType = options.mimeType ?? (file instanceof Blob ? file.type : "");
    const path = isPath ? { path: file instanceof URL ? fileURLToPath(file) : file } : {};
    const request = JSON.stringify({ ...this.#context(), ...path, purpose, mimeType, again });
    const call = this.#addon.fileUpload(request);
    const abort = (): void => call.cancel();
    signal?.addEventListener("abort", abort, { once: true });
    if (signal?.aborted) abort();
    const watch = new Watch(call, onProgress);
    try {
      if (!isPath) await append(call, file, signal);
      const uploaded = answerValue<UploadedFile>(await call.result());
      watch.end(uploaded);
      return uploaded;
    } catch (error) {
      if (signal?.aborted)
        throw kimiError({ code: "cancelled", message: "Request was aborted" }, { cause: signal.reason });
      throw watch.thrown ?? error;
    } finally {
      watch.stop();
      signal?.removeEventListener("abort", abort);
    }
  }
}

/** Copies the bytes; between two pieces the program may do something else. */
async function append(call: FileUpload, file: Uint8Array | ArrayBuffer | Blob, signal?: AbortSignal): Promise<void> {
  await call.prepare(file instanceof Blob ? file.size : file.byteLength);
  if (file instanceof Blob) {
    const reader = file.stream().getReader();
    for (;;) {
      const { done, value: bytes } = await reader.read();
      if (done || signal?.aborted || !call.append(bytes)) return void reader.cancel().catch(() => {});
    }
  }
  const bytes = file instanceof ArrayBuffer ? new Uint8Array(file) : file;
  for (let at = 0; at < bytes.length; at += CHUNK_BYTES) {
    if (signal?.aborted || !call.append(bytes.subarray(at, at + CHUNK_BYTES))) return;
    if (at + CHUNK_BYTES < bytes.length) await nextTurn();
  }
}

/** Tells of progress while an upload lasts. */
class Watch {
  readonly #call: FileUpload;
  readonly #tell: UploadOptions["onProgress"];
  readonly #timer: ReturnType<typeof setInterval> | undefined;
  #told = 0;
  /** What the listener threw; it ends the upload. */
  thrown: unknown;

  constructor(call: FileUpload, tell: UploadOptions["onProgress"]) {
    this.#call = call;
    this.#tell = tell;
    if (tell !== undefined) this.#timer = setInterval(() => this.#look(), PROGRESS_INTERVAL_MS);
  }

  /** Says that all of it is there. */
  end({ known, bytes }: UploadedFile): void {
    if (!known && this.#told < bytes) this.#tell?.({ sent: bytes, total: bytes });
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #look(): void {
    const [sent, total] = this.#call.progress();
    if (sent === 0 || sent === this.#told) return;
    this.#told = sent;
    try {
      this.#tell?.({ sent, total });
    } catch (error) {
      this.thrown = error;
      this.stop();
      this.#call.cancel();
    }
  }
}
