/** Formats what was recorded about the prompt cache, for `/kimi-cache`. */
import type { Theme } from "@earendil-works/pi-coding-agent";
import type { PromptCacheReport } from "../messages.ts";

type Request = PromptCacheReport["requests"][number];
type Segment = PromptCacheReport["segments"][number];

/** Segments of the same kind that lie side by side and share their fate. */
interface Group {
  first: Segment;
  last: Segment;
  tokens: number;
}

/** Formats tokens as `850`, `24.1k` or `212k`. */
export function tokensText(tokens: number): string {
  if (tokens < 1000) return String(tokens);
  return tokens < 99_950 ? `${(tokens / 1000).toFixed(1)}k` : `${Math.round(tokens / 1000)}k`;
}

/** Formats a time of day as `14:32`, with the day of the month where it is another one, in local time. */
function clock(at: number): string {
  const then = new Date(at);
  const time = [then.getHours(), then.getMinutes()].map((part) => String(part).padStart(2, "0")).join(":");
  if (then.toDateString() === new Date().toDateString()) return time;
  return `${then.getMonth() + 1}/${then.getDate()} ${time}`;
}

/** Formats the report as rows. `named` adds to a cause what is known about the tool in it. */
export function cacheRows(
  report: PromptCacheReport,
  theme?: Theme,
  named = (cause: string): string => cause,
): string[] {
  const { requests, segments } = report;
  const newest = requests.at(-1);
  if (newest === undefined) return ["Nothing has been sent in this session yet."];
  const paint = (color: "dim" | "warning" | "success", text: string): string => theme?.fg(color, text) ?? text;
  const rows = [title(newest), "", paint("dim", `${"sent".padEnd(13)}  prompt  cached  expected  verdict`)];
  for (const request of requests) {
    rows.push(requestRow(request, (text) => paint("warning", text)));
    const place = [request.segment, request.offset ? `from byte ${request.offset}` : undefined]
      .filter(Boolean)
      .join(" ");
    const why = [place, request.cause === null ? undefined : named(request.cause)].filter(Boolean).join(": ");
    if (why !== "") rows.push(paint("dim", `${" ".repeat(15)}${why}`));
  }
  rows.push("", paint("dim", `${"prompt now".padEnd(36)}  tokens  cached  since`));
  for (const group of grouped(segments)) {
    const { first, tokens } = group;
    const cached = first.cached ? paint("success", "yes   ") : paint("warning", "no    ");
    const since = first.since === null ? "" : clock(first.since);
    rows.push(
      `${label(group).slice(0, 36).padEnd(36)}  ${tokensText(tokens).padStart(6)}  ${cached}  ${since}`.trimEnd(),
    );
  }
  return rows;
}

function title({ model, prompt, cached }: Request): string {
  const of = model === null ? "Prompt cache" : `Prompt cache of ${model}`;
  if (prompt === null || cached === null) return of;
  return `${of}: ${tokensText(cached)} of ${tokensText(prompt)} tokens came from it in the last request`;
}

function requestRow({ at, prompt, cached, predicted, verdict }: Request, warn: (text: string) => string): string {
  const number = (tokens: number | null, columns: number): string =>
    (tokens === null ? "–" : tokensText(tokens)).padStart(columns);
  const word = verdict === "changed" || verdict === "evicted" ? warn(verdict) : verdict;
  return `${clock(at).padEnd(13)}  ${number(prompt, 6)}  ${number(cached, 6)}  ${number(predicted, 8)}  ${word}`;
}

function grouped(segments: readonly Segment[]): Group[] {
  const groups: Group[] = [];
  for (const segment of segments) {
    const group = groups.at(-1);
    // An image belongs to the message before it.
    const kind = segment.kind === "media" ? "message" : segment.kind;
    if (group !== undefined && group.first.kind === kind && group.first.cached === segment.cached) {
      Object.assign(group, { last: segment, tokens: group.tokens + segment.tokens });
    } else groups.push({ first: segment, last: segment, tokens: segment.tokens });
  }
  return groups;
}

function label({ first, last }: Group): string {
  if (first.kind === "system") return "system prompt";
  const name = (segment: Segment): string => (segment.name === null ? "" : ` ${segment.name}`);
  if (first === last) return `${first.kind} ${first.index}${name(first)}`;
  if (first.kind === "tool") return `tools ${first.index}–${last.index}, ${first.name ?? "?"} to ${last.name ?? "?"}`;
  return first.index === last.index
    ? `message ${first.index}${name(first)} with images`
    : `messages ${first.index}–${last.index}`;
}
