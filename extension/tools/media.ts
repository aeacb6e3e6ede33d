/**
 * Defines the tool `kimi_read_media`: an image or video on disk. The session holds a reference, and only Kimi gets the file.
 */
import type { ToolDefinition } from "@earendil-works/pi-coding-agent";
import type { MediaFiles } from "../media/files.ts";
import { takesMedia } from "../models.ts";
import { callLine, type Line, lines, oneLine, plainText, type ToolParts } from "./render.ts";

const NAME = "kimi_read_media";

/** Creates the tool. */
export function mediaTool({ services, parts, collapsed }: ToolParts, files: MediaFiles): ToolDefinition {
  return {
    ...services.tool(NAME),
    async execute(_callId, args, signal, onUpdate, context) {
      const { path: written, question = "" } = args as { path: string; question?: string };
      // Models repeat what the user wrote. Pi's own tools leave the sign out too.
      const path = written.replace(/^@/, "");
      if (!takesMedia(context.model)) throw new Error("Only Kimi's models that take images can use this tool.");
      let shown = false;
      const onProgress = (text: string): void => {
        shown = true;
        onUpdate?.({ content: [{ type: "text", text }], details: undefined });
        context.ui.setWorkingMessage(`Kimi: ${text}`);
      };
      try {
        const { text, details } = await files.prepare(path, context, { signal, onProgress });
        const asked = question.trim() === "" ? [] : [{ type: "text" as const, text: question }];
        return { content: [{ type: "text", text }, ...asked], details };
      } finally {
        if (shown) context.ui.setWorkingMessage();
      }
    },
    renderCall(args, theme, context) {
      const { path, question } = (args ?? {}) as { path?: unknown; question?: unknown };
      const rows: Line[] = [callLine(theme, NAME, path)];
      const asked = oneLine(typeof question === "string" ? question : "");
      if (asked !== "") rows.push({ text: theme.fg("dim", asked), indent: 2 });
      return lines(parts, context).set(rows);
    },
    renderResult(result, { expanded }, theme, context) {
      const rows = plainText(result, theme, context, undefined);
      // Behind the file stands the question, which the call shows already.
      const whole = context.isError || expanded || !collapsed(NAME);
      return lines(parts, context).set(whole ? rows : rows.slice(0, 1));
    },
  };
}
