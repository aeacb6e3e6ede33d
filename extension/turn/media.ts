/**
 * Takes images and videos out of a context before it is written as JSON.
 *
 * Megabytes of base64 inside JSON block the event loop for tens of milliseconds (docs/architecture.md#media-beside-the-text).
 * Beside it they cost little, and nothing from the second turn on, which passes the handle of the first turn again.
 */
import type { TranscriptContext } from "@earendil-works/pi-ai";
import type { Addon, MediaHandle } from "../native/addon.ts";

/** An image or video: its base64 text or data URL, and its handle in the addon. */
export interface MediaItem {
  data: string;
  handle: MediaHandle;
}

/** Handles by the object of the history that held the data. */
const known = new WeakMap<object, MediaItem>();

/** The member that holds the data, by the part's type. */
const PAYLOADS: Record<string, string> = {
  image: "data",
  video: "data",
  image_url: "image_url",
  video_url: "video_url",
};

/** Returns the data of a part, if it has any. */
function payload(part: unknown): string | undefined {
  if (typeof part !== "object" || part === null) return undefined;
  const { type } = part as { type?: unknown };
  const member = typeof type === "string" ? PAYLOADS[type] : undefined;
  if (member === undefined) return undefined;
  const value = (part as Record<string, unknown>)[member];
  if (member === "data") return typeof value === "string" ? value : undefined;
  const url = typeof value === "object" && value !== null ? (value as { url?: unknown }).url : value;
  return typeof url === "string" && /^data:/i.test(url) ? url : undefined;
}

function holdsMedia(message: object): boolean {
  const { content } = message as { content?: unknown };
  return Array.isArray(content) && content.some((part) => payload(part) !== undefined);
}

/** Replaces the data of each part with `media: <index>` and returns the media items by index. */
export function extractMedia(addon: Addon, context: TranscriptContext): { context: object; media: MediaItem[] } {
  const media: MediaItem[] = [];
  const slim = (part: object, data: string): object => {
    let item = known.get(part);
    // Equal strings are usually the same object, so this comparison is cheap.
    if (item?.data !== data) {
      item = { data, handle: addon.media(data) };
      known.set(part, item);
    }
    const { type, mimeType } = part as { type: string; mimeType?: unknown };
    return { type, mimeType, media: media.push(item) - 1 };
  };
  if (!context.messages.some(holdsMedia)) return { context, media };
  const messages = context.messages.map((message) => {
    if (!holdsMedia(message)) return message;
    const { content } = message as { content: unknown[] };
    return {
      ...message,
      content: content.map((part: unknown) => {
        const data = payload(part);
        return data === undefined ? part : slim(part as object, data);
      }),
    };
  });
  return { context: { ...context, messages }, media };
}
