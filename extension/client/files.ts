/**
 * Uploads files that messages refer to. The addon does the work; this module passes it the bytes without blocking the event loop.
 */
import { setImmediate as yieldToEventLoop } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { cancelledError, kimiError } from "../errors.ts";
import type { Addon, FileUpload } from "../native/addon.ts";
import { parseAnswer, withAbort } from "../native/call.ts";
import { checkUpload } from "./input.ts";
import type { Cancellable } from "./options.ts";

/** A path, a `file:` URL, or the bytes. */
export type FileSource = string | URL | ArrayBufferView | ArrayBuffer | Blob;

export interface UploadOptions extends Cancellable {
  /** Required kind of file. Default: whatever the bytes are. */
  purpose?: "image" | "video";
  /** MIME type, for bytes whose type cannot be detected. */
  mimeType?: string;
  /** Uploads the file even if it is known, for example because the service has lost it. */
  again?: boolean;
  /** Receives the progress about ten times a second and once at the end. Not called for a known file. */
  onProgress?: (progress: { sent: number; total: number }) => void;
}

/** An uploaded file. */
export interface UploadedFile {
  id: string;
  /** `ms://…`: the URL of an `image_url` or `video_url` part. */
  url: string;
  purpose: "image" | "video";
  /** MIME type detected from the bytes. */
  mimeType: string;
  /** File name sent to the service. */
  filename: string;
  bytes: number;
  /** The file was uploaded earlier, so nothing was sent. */
  known: boolean;
}

/** Bytes copied before other work of the event loop gets a turn. */
const CHUNK_BYTES = 1 << 20;

/** Time between two progress reports. */
const PROGRESS_INTERVAL_MS = 100;

/** The member `files` of a client. */
export class KimiFiles {
  readonly #addon: Addon;
  readonly #context: () => object;

  /** @internal */
  constructor(addon: Addon, context: () => object) {
    this.#addon = addon;
    this.#context = context;
  }

  /**
   * Uploads an image or video of at most 100 MiB, once per account: all programs on this machine, Pi included, share the index
   * of uploaded files. Rejects with a `KimiError`.
   */
  async upload(file: FileSource, options: UploadOptions = {}): Promise<UploadedFile> {
    checkUpload(file, options);
    const { signal, purpose, again, onProgress } = options;
    const isPath = typeof file === "string" || file instanceof URL;
    const mimeType = options.mimeType ?? (file instanceof Blob ? file.type : "");
    const path = isPath ? { path: file instanceof URL ? fileURLToPath(file) : file } : {};
    const request = JSON.stringify({ ...this.#context(), ...path, purpose, mimeType, again });
    const call = this.#addon.fileUpload(request);
    const progress = new ProgressReporter(call, onProgress);
    try {
      return await withAbort(
        signal,
        () => call.cancel(),
        async () => {
          if (!isPath) await append(call, file, signal);
          const uploaded = parseAnswer<UploadedFile>(await call.result());
          progress.end(uploaded);
          return uploaded;
        },
      );
    } catch (error) {
      throw signal?.aborted ? cancelledError(signal) : (progress.thrown ?? error);
    } finally {
      progress.stop();
    }
  }
}

/** Copies the bytes in chunks and lets other work run in between. */
async function append(
  call: FileUpload,
  file: ArrayBufferView | ArrayBuffer | Blob,
  signal?: AbortSignal,
): Promise<void> {
  await call.prepare(file instanceof Blob ? file.size : file.byteLength);
  if (file instanceof Blob) {
    const reader = file.stream().getReader();
    for (;;) {
      const { done, value: bytes } = await reader.read().catch((cause: unknown) => {
        call.cancel();
        const reason = cause instanceof Error ? cause.message : String(cause);
        throw kimiError({ code: "io", message: `the file cannot be read: ${reason}` }, { cause });
      });
      if (done || signal?.aborted || !call.append(bytes)) return void reader.cancel().catch(() => {});
    }
  }
  const bytes =
    file instanceof ArrayBuffer ? new Uint8Array(file) : new Uint8Array(file.buffer, file.byteOffset, file.byteLength);
  for (let at = 0; at < bytes.length; at += CHUNK_BYTES) {
    if (signal?.aborted || !call.append(bytes.subarray(at, at + CHUNK_BYTES))) return;
    if (at + CHUNK_BYTES < bytes.length) await yieldToEventLoop();
  }
}

/** Reports progress while an upload runs. */
class ProgressReporter {
  readonly #call: FileUpload;
  readonly #report: UploadOptions["onProgress"];
  readonly #timer: ReturnType<typeof setInterval> | undefined;
  #reported = 0;
  /** What the callback threw; it ends the upload. */
  thrown: unknown;

  constructor(call: FileUpload, report: UploadOptions["onProgress"]) {
    this.#call = call;
    this.#report = report;
    if (report !== undefined) this.#timer = setInterval(() => this.#poll(), PROGRESS_INTERVAL_MS);
  }

  /** Reports a finished upload. */
  end({ known, bytes }: UploadedFile): void {
    if (!known && this.#reported < bytes) this.#report?.({ sent: bytes, total: bytes });
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #poll(): void {
    const [sent, total] = this.#call.progress();
    if (sent === 0 || sent === this.#reported) return;
    this.#reported = sent;
    try {
      this.#report?.({ sent, total });
    } catch (error) {
      this.thrown = error;
      this.stop();
      this.#call.cancel();
    }
  }
}
