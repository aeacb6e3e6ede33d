/**
 * Defines the tool `moonshot_fetch`: a page as Markdown, fetched by the service and never from this machine.
 */
import type { ToolDefinition } from "@earendil-works/pi-coding-agent";
import type { FetchAnswer } from "../services.ts";
import {
  callLine,
  count,
  hint,
  lines,
  oneLine,
  plainText,
  resultText,
  safe,
  type ToolParts,
  toolResult,
} from "./render.ts";

const NAME = "moonshot_fetch";

type FetchDetails = Omit<FetchAnswer, "text">;

/** Creates the tool. */
export function fetchTool({ services, parts, collapsed, session }: ToolParts): ToolDefinition {
  return {
    ...services.tool(NAME),
    async execute(callId, params, signal, _onUpdate, context) {
      const { url } = params as { url: string };
      const options = { ...(await session(context)), callId, signal };
      const { text, ...details } = await services.fetch(url, options);
      const { truncated = false, fullOutputPath } = details;
      return toolResult(text, details, { markdown: text, truncated, fullOutputPath });
    },
    renderCall(args, theme, context) {
      const { url } = (args ?? {}) as { url?: unknown };
      return lines(parts, context).set([callLine(theme, NAME, url)]);
    },
    renderResult(result, { expanded }, theme, context) {
      const details = result.details as Partial<FetchDetails> | undefined;
      if (context.isError || details?.bytes === undefined) {
        return lines(parts, context).set(plainText(result, theme, context, undefined));
      }
      const text = safe(resultText(result));
      if (expanded || !collapsed(NAME)) return parts.markdown(text);
      const size = `${parts.formatSize(details.bytes)}, ${count(details.lines ?? 0, "line")}`;
      const rows = [{ text: theme.fg("toolOutput", pageTitle(text)), single: true }];
      return lines(parts, context).set([
        ...rows,
        hint(parts, theme, context, details.truncated ? `${size}, truncated` : size),
      ]);
    },
  };
}

/** Returns the first heading, else the first line with text. */
function pageTitle(text: string): string {
  const candidates = text.slice(0, 4000).split("\n");
  const heading = candidates.find((line) => /^#{1,6}\s+\S/.test(line));
  return oneLine((heading ?? candidates.find((line) => line.trim() !== "") ?? "").replace(/^#+\s+/, ""));
}
