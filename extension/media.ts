/**
 * Takes images out of a context before it becomes JSON text.
 *
 * Megabytes of base64 inside JSON freeze the event loop for tens of milliseconds, beside it they cost almost nothing
 * (napi-stack §3.4). Messages without images are passed on as they are.
 */
import type { TranscriptContext } from "@earendil-works/pi-ai";

interface ImagePart {
  type: "image";
  data: string;
  mimeType: string;
}

function isImage(part: unknown): part is ImagePart {
  return (
    typeof part === "object" &&
    part !== null &&
    (part as ImagePart).type === "image" &&
    typeof (part as ImagePart).data === "string"
  );
}

/** The context with `{type, mimeType, media: <index>}` in place of each image, and the base64 texts by index. */
export function withoutMedia(context: TranscriptContext): { context: object; media: string[] } {
  const media: string[] = [];
  const messages = context.messages.map((message) => {
    const { content } = message as { content?: unknown };
    if (!Array.isArray(content) || !content.some(isImage)) return message;
    return {
      ...message,
      content: content.map((part: unknown) =>
        isImage(part) ? { type: "image", mimeType: part.mimeType, media: media.push(part.data) - 1 } : part,
      ),
    };
  });
  return { context: { ...context, messages }, media };
}
