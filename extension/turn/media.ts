/**
 * Takes images and videos out of a context before it becomes JSON text.
 *
 * Megabytes of base64 inside JSON freeze the event loop for tens of milliseconds, beside it they cost little
 * (docs/architecture.md#media-beside-the-text), and nothing at all from the second turn on: then only the handle that the addon
 * gave out for the first one is passed. A handle belongs to one object of the history and to the very text that this object held.
 */
import type { TranscriptContext } from "@earendil-works/pi-ai";
import type { Addon, MediaHandle } from "../native/addon.ts";

/** An image or video: its base64 text or data URL, and what the addon calls it. */
export interface MediaItem {
  data: string;
  handle: MediaHandle;
}

const known = new WeakMap<object, MediaItem>();

/** Members of a part that may hold megabytes, by the part's type. */
const PAYLOADS: Record<string, string> = {
  image: "data",
  video: "data",
  image_url: "image_url",
  video_url: "video_url",
};

/** The megabytes of a part, if it has any. */
function payload(part: unknown): string | undefined {
  if (typeof part !== "object" || part === null) return undefined;
  const { type } = part as { type?: unknown };
  const member = typeof type === "string" ? PAYLOADS[type] : undefined;
  if (member === undefined) return undefined;
  const value = (part as Record<string, unknown>)[member];
  if (member === "data") return typeof value === "string" ? value : undefined;
  const url = typeof value === "object" && value !== null ? (value as { url?: unknown }).url : value;
  return typeof url === "string" && url.startsWith("data:") ? url : undefined;
}

/** The context with `media: <index>` in place of each payload, and the media by index. */
export function extractMedia(addon: Addon, context: TranscriptContext): { context: object; media: MediaItem[] } {
  const media: MediaItem[] = [];
  const slim = (part: object, data: string): object => {
    let item = known.get(part);
    // Equal strings are usually the same string, which costs nothing to find out.
    if (item?.data !== data) {
      item = { data, handle: addon.medium(data) };
      known.set(part, item);
    }
    const { type, mimeType } = part as { type: string; mimeType?: unknown };
    return { type, mimeType, media: media.push(item) - 1 };
  };
  const messages = context.messages.map((message) => {
    const { content } = message as { content?: unknown };
    if (!Array.isArray(content) || !content.some((part) => payload(part) !== undefined)) return message;
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
