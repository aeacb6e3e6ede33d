/**
 * Defines the tool `kimi_datasource`: quotes, statistics, papers, law and filings.
 */
import type { ToolDefinition } from "@earendil-works/pi-coding-agent";
import type { DatasourceAnswer } from "../services.ts";
import { callLine, hint, type Line, lines, oneLine, plainText, type ToolParts, toolResult } from "./render.ts";

const NAME = "kimi_datasource";

/** Rows of a collapsed result. */
const PREVIEW = 3;

/** Longest parameter value on the call line, in characters. */
const SHOWN_PARAMETER = 60;

type DatasourceDetails = Omit<DatasourceAnswer, "text">;

interface Arguments {
  data_source_name: string;
  api_name?: string;
  params?: Record<string, unknown>;
}

/** Creates the tool. */
export function datasourceTool({ services, parts, collapsed, session }: ToolParts): ToolDefinition {
  const sources = services.sources();
  return {
    ...services.tool(NAME),
    prepareArguments(args) {
      const given = (typeof args === "object" && args !== null ? args : {}) as Record<string, unknown>;
      const name = given["data_source_name"];
      // Pi's own error would not list the names.
      if (typeof name === "string" && !sources.some(([known]) => known === name)) {
        throw new Error(`There is no data source "${name}"; there are ${sources.map(([known]) => known).join(", ")}`);
      }
      const params = objectIn(given["params"]);
      return params === undefined ? given : { ...given, params };
    },
    async execute(callId, args, signal, _onUpdate, context) {
      const { data_source_name: source, api_name: api, params } = args as Arguments;
      const options = { ...(await session(context)), callId, signal };
      const { text, ...details } = await services.datasource({ source, api, params, project: context.cwd }, options);
      return toolResult(text, details, { text, files: details.files ?? [] });
    },
    renderCall(args, theme, context) {
      const { data_source_name: source, api_name: api, params } = (args ?? {}) as Partial<Arguments>;
      const asked = oneLine(api) === "" ? `${source ?? ""} documentation` : `${source ?? ""}.${api}`;
      const rows: Line[] = [callLine(theme, NAME, source === undefined ? "" : asked)];
      const listed = parameterList(params);
      if (listed !== "") rows.push({ text: theme.fg("dim", listed), indent: 2 });
      return lines(parts, context).set(rows);
    },
    renderResult(result, { expanded }, theme, context) {
      const details = result.details as Partial<DatasourceDetails> | undefined;
      const whole = expanded || context.isError || !collapsed(NAME);
      const rows = plainText(
        result,
        theme,
        context,
        whole ? undefined : { rows: PREVIEW, parts, until: details?.notes?.[0] },
      );
      const written = whole ? [] : (details?.files ?? []).filter((file) => file.path !== undefined);
      for (const file of written) {
        rows.push({ text: theme.fg("success", `wrote ${oneLine(file.path)} (${parts.formatSize(file.size)})`) });
      }
      if (!whole && rows.length === 0) rows.push(hint(parts, theme, context, "no text"));
      return lines(parts, context).set(rows);
    },
  };
}

/** Parses an object that the model wrote as text. */
function objectIn(value: unknown): object | undefined {
  if (typeof value !== "string") return undefined;
  if (value.trim() === "") return {};
  try {
    const parsed: unknown = JSON.parse(value);
    return typeof parsed === "object" && parsed !== null && !Array.isArray(parsed) ? parsed : undefined;
  } catch {
    return undefined;
  }
}

/** Formats parameters for the call line. */
function parameterList(params: unknown): string {
  if (typeof params !== "object" || params === null) return "";
  return Object.entries(params)
    .map(([name, value]) => {
      const text = oneLine(typeof value === "string" ? value : JSON.stringify(value));
      return `${oneLine(name)}: ${text.length > SHOWN_PARAMETER ? `${text.slice(0, SHOWN_PARAMETER)}…` : text}`;
    })
    .join(" · ");
}
