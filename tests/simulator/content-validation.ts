// Content of messages: text that must not be empty and media the service can resolve, in both dialects
// (docs/protocol.md#messages, docs/protocol.md#messages-body, docs/protocol.md#file-references).

import type { ResolvedModel } from "./catalog.ts";
import { invalidRequest } from "./errors.ts";
import { asObject, asString, isObject, type Json, type JsonObject } from "./json.ts";

const IMAGE_TYPES = ["png", "jpeg", "jpg", "gif", "webp", "bmp", "heic", "heif"].map((name) => `image/${name}`);
const VIDEO_TYPES = ["mp4", "mpeg", "quicktime", "webm", "x-matroska", "x-msvideo", "x-flv", "3gpp"].map(
  (name) => `video/${name}`,
);
const BASE64 = /^[A-Za-z0-9+/]+={0,2}$/;

export function emptyMessage(position: number, role: string): Error {
  return invalidRequest(`the message at position ${position} with role '${role}' must not be empty`);
}

export function emptyText(): Error {
  return invalidRequest("text content is empty");
}

/** Parts of the OpenAI dialect. `false` means that there was no content. */
export function checkOpenAIContent(content: Json | undefined, model: ResolvedModel): boolean {
  if (content === undefined || content === null || content === "") return false;
  if (typeof content === "string") return true;
  if (!Array.isArray(content)) throw invalidRequest("Invalid request: content must be a string or an array");
  for (const part of content) {
    if (!isObject(part)) throw invalidRequest("Invalid request: a content part must be an object");
    const type = asString(part["type"]) ?? "";
    if (type === "text") {
      if (typeof part["text"] !== "string" || part["text"] === "") throw emptyText();
    } else if (type === "image_url" || type === "video_url" || type === "audio_url") {
      const value = part[type];
      checkUrl(type.slice(0, 5), typeof value === "string" ? value : asString(asObject(value)?.["url"]), model);
    } else {
      throw invalidRequest(`Invalid request: unsupported content part type '${type}'`);
    }
  }
  return content.length > 0;
}

/** An image or video block of the Anthropic dialect. */
export function checkAnthropicMedia(block: JsonObject, model: ResolvedModel): void {
  const kind = asString(block["type"]) ?? "";
  const source = asObject(block["source"]);
  if (source?.["type"] === "url") return checkUrl(kind, asString(source["url"]), model);
  if (source?.["type"] !== "base64") throw invalidRequest(`Invalid request: unsupported ${kind} source`);
  checkMedia(kind, asString(source["media_type"]) ?? "", asString(source["data"]) ?? "", model);
}

function checkUrl(kind: string, url: string | undefined, model: ResolvedModel): void {
  if (url === undefined || url === "") throw invalidRequest(`Invalid request: ${kind}_url.url is required`);
  if (kind === "video") checkVideoModel(model);
  if (/^https?:\/\//.test(url)) return;
  // Which ids exist is checked in files.ts.
  if (url.startsWith("ms://")) {
    if (/^ms:\/\/[A-Za-z0-9][A-Za-z0-9._-]*$/.test(url)) return;
    throw invalidRequest(`Invalid request: file ${url} is not found`);
  }
  const data = /^data:([^;,]*)((?:;[^;,]*)*),/.exec(url);
  if (data === null || !(data[2] ?? "").endsWith(";base64")) throw unsupported(kind);
  if (kind !== "audio") checkMedia(kind, data[1] ?? "", url.slice(data[0].length), model);
}

function checkMedia(kind: string, type: string, base64: string, model: ResolvedModel): void {
  if (kind === "video") checkVideoModel(model);
  if (!(kind === "image" ? IMAGE_TYPES : VIDEO_TYPES).includes(type)) throw unsupported(kind);
  if (!BASE64.test(base64)) throw invalidRequest(`Invalid request: failed to decode ${kind}`);
}

function checkVideoModel(model: ResolvedModel): void {
  if (!model.videoIn) throw invalidRequest(`Invalid request: model ${model.id} does not support video input`);
}

function unsupported(kind: string): Error {
  return invalidRequest(`Invalid request: unsupported ${kind} format`);
}
