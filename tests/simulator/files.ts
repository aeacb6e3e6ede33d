// `POST /files` and the files that the service keeps per account (docs/protocol.md#files-api). Slow, failing
// and refusing answers come from `intercept("files", …)`; what a file may be referenced by is checked in chat.

import { createHash, randomBytes } from "node:crypto";
import { presentedTokens } from "./auth.ts";
import { invalidRequest, tooLarge } from "./errors.ts";
import type { Exchange } from "./exchange.ts";
import { isObject, type Json } from "./json.ts";
import { readMultipart } from "./multipart.ts";
import type { Route } from "./routes.ts";
import type { State } from "./state.ts";

/** Documented per account (docs/protocol.md#file-limits). */
const MAX_FILE_BYTES = 100 * 1024 * 1024;
const MAX_FILES = 1000;

export interface StoredFile {
  id: string;
  /** The owner: the user of the access token, or the static key. */
  account: string;
  purpose: "image" | "video";
  filename: string;
  mime: string;
  bytes: number;
  sha256: string;
  createdAt: number;
}

export class FileStore {
  /** In order of upload. The array keeps its identity over `clear`. */
  readonly all: StoredFile[] = [];
  add(file: Omit<StoredFile, "id" | "createdAt">): StoredFile {
    const stored = { ...file, id: randomBytes(10).toString("hex"), createdAt: Math.floor(Date.now() / 1000) };
    this.all.push(stored);
    return stored;
  }

  find(id: string, account: string): StoredFile | undefined {
    return this.all.find((file) => file.id === id && file.account === account);
  }

  /** The service forgets a file; ids of forgotten files are refused from then on. */
  remove(id: string): void {
    const at = this.all.findIndex((file) => file.id === id);
    if (at >= 0) this.all.splice(at, 1);
  }

  clear(): void {
    this.all.length = 0;
  }
}

export const routes: Route[] = [
  { method: "POST", path: "/coding/v1/files", endpoint: "files", credential: true, identity: false, handle: upload },
];

/** Files belong to an account, not to a token: tokens rotate every few minutes. */
export function accountOf({ oauth }: State, headers: Record<string, string>): string {
  const { bearer, apiKey } = presentedTokens(headers);
  const token = bearer ?? apiKey ?? "";
  const subject = oauth.subjectOf(token);
  if (subject !== undefined) return subject;
  const payload = token.split(".")[1];
  if (payload !== undefined) {
    try {
      const { sub } = JSON.parse(Buffer.from(payload, "base64url").toString("utf8")) as { sub?: unknown };
      if (typeof sub === "string") return sub;
    } catch {
      // A static key with a dot in it.
    }
  }
  return token;
}

/** Refuses a body that refers to files which the account does not have. The text is invented, its words are common [I]. */
export function checkReferences(body: Json | undefined, account: string, files: FileStore): void {
  if (Array.isArray(body)) {
    for (const item of body) checkReferences(item, account, files);
  } else if (isObject(body)) {
    for (const [name, value] of Object.entries(body)) {
      if (typeof value !== "string") checkReferences(value, account, files);
      else if (/^(url|image_url|video_url)$/.test(name) && value.startsWith("ms://")) {
        if (files.find(value.slice(5), account) === undefined) {
          throw invalidRequest(`Invalid request: file ${value} is not found`);
        }
      }
    }
  }
}

function upload(exchange: Exchange): void {
  const { record, state } = exchange;
  const form = readMultipart(record.headers["content-type"] ?? "", record.rawBody);
  if ("problem" in form) throw invalidRequest(`Invalid request: ${form.problem}`);
  const file = form.parts.find((part) => part.name === "file");
  const purpose = form.parts.find((part) => part.name === "purpose")?.bytes.toString("utf8");
  if (file?.filename === undefined) throw invalidRequest("Invalid request: file is required");
  if (purpose !== "image" && purpose !== "video")
    throw invalidRequest(`Invalid request: unsupported purpose '${purpose}'`);
  const mime = file.contentType ?? "application/octet-stream";
  if (file.bytes.length === 0) throw invalidRequest("Invalid request: file is empty");
  if (!mime.startsWith(`${purpose}/`)) throw invalidRequest(`Invalid request: '${mime}' is no ${purpose}`);
  if (file.bytes.length > MAX_FILE_BYTES) throw tooLarge();
  const account = accountOf(state, record.headers);
  if (state.files.all.filter((known) => known.account === account).length >= MAX_FILES) {
    throw invalidRequest("Invalid request: too many files, please delete previous uploaded files");
  }
  const stored = state.files.add({
    account,
    purpose,
    filename: file.filename,
    mime,
    bytes: file.bytes.length,
    sha256: createHash("sha256").update(file.bytes).digest("hex"),
  });
  exchange.json(200, {
    id: stored.id,
    object: "file",
    bytes: stored.bytes,
    created_at: stored.createdAt,
    filename: stored.filename,
    purpose,
  });
}
