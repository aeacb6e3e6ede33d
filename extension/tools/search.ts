/**
 * Defines the tool `moonshot_search`: web search through the service.
 */
import type { ToolDefinition } from "@earendil-works/pi-coding-agent";
import type { SearchAnswer, SearchResult } from "../services.ts";
import { callLine, count, hint, type Line, lines, oneLine, plainText, type ToolParts, toolResult } from "./render.ts";

const NAME = "moonshot_search";

/** Results shown while collapsed. */
const PREVIEW = 3;

type SearchDetails = Omit<SearchAnswer, "text">;

/** Creates the tool. */
export function searchTool({ services, parts, collapsed, session }: ToolParts): ToolDefinition {
  return {
    ...services.tool(NAME),
    async execute(callId, params, signal, _onUpdate, context) {
      const { query } = params as { query: string };
      const options = { ...(await session(context)), callId, signal };
      const { text, ...details } = await services.search(query, options);
      const { results, total } = details;
      return toolResult(text, details, { results, total });
    },
    renderCall(args, theme, context) {
      const { query } = (args ?? {}) as { query?: unknown };
      return lines(parts, context).set([callLine(theme, NAME, query)]);
    },
    renderResult(result, { expanded }, theme, context) {
      const details = result.details as Partial<SearchDetails> | undefined;
      const view = lines(parts, context);
      if (context.isError || !Array.isArray(details?.results)) {
        const short = expanded || context.isError ? undefined : { rows: PREVIEW, parts };
        return view.set(plainText(result, theme, context, short));
      }
      const { results, total = results.length } = details;
      if (total === 0) return view.set([{ text: theme.fg("muted", "no results") }]);
      const whole = expanded || !collapsed(NAME);
      const rows: Line[] = whole
        ? results.flatMap((found, index) => entry(found, index))
        : results.slice(0, PREVIEW).map((found, index) => heading(found, index, true));
      const hidden = total - (whole ? results.length : Math.min(PREVIEW, results.length));
      if (hidden > 0 && whole)
        rows.push({ text: theme.fg("muted", `${count(hidden, "more result")} went to the model`) });
      else if (!whole)
        rows.push(hint(parts, theme, context, hidden > 0 ? count(hidden, "more result") : count(total, "result")));
      return view.set(rows);

      function heading(found: SearchResult, index: number, single: boolean): Line {
        const about = [found.site, found.date].map(oneLine).filter((text) => text !== "");
        const title = oneLine(found.title) || oneLine(found.url) || "(untitled)";
        const tail = about.length === 0 ? "" : theme.fg("dim", ` — ${about.join(" · ")}`);
        return { text: `${theme.fg("muted", `${index + 1}.`)} ${theme.fg("toolOutput", title)}${tail}`, single };
      }

      function entry(found: SearchResult, index: number): Line[] {
        const indent = String(index + 1).length + 2;
        const below = [theme.fg("mdLinkUrl", oneLine(found.url)), theme.fg("muted", oneLine(found.snippet))];
        const texts = [found.url, found.snippet].map(oneLine);
        return [
          heading(found, index, false),
          ...below.filter((_, at) => texts[at] !== "").map((text) => ({ text, indent })),
        ];
      }
    },
  };
}
