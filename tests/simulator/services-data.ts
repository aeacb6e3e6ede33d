// Content of the simulated services: a handful of pages, documentation of sources, prices, files.

import type { Json, JsonObject } from "./json.ts";

const SITES: readonly [site: string, host: string, date: string, title: string, snippet: string][] = [
  [
    "Moonshot AI",
    "platform.moonshot.cn",
    "2026-07-12",
    "What is new about",
    "Release notes, models and prices. The page lists what changed for developers, with examples for both dialects.",
  ],
  [
    "机器之心",
    "www.jiqizhixin.com",
    "2026-08-03",
    "深度解读：",
    "本文从架构、训练数据与推理成本三个方面介绍最新进展，并给出与其他模型的对比测试结果，附完整的评测表格。",
  ],
  ["GitHub", "github.com", "", "Issues that mention", "12 open, 230 closed. Most recent: streaming of tool arguments."],
  ["Hacker News", "news.ycombinator.com", "2026-05-01", "Ask HN: experiences with", "Comments: 184. Top answer: …"],
  ["", "example.com", "2025-12-24", "A page without a site name on", ""],
];

/** As many results as requested; `Infinity` stops at `bytes` of snippets. */
export function results(query: string, count: number, bytes: number): Json[] {
  const found: Json[] = [];
  for (let size = 0; found.length < count && size < bytes; size += 1000) {
    const [site, host, date, title, snippet] = SITES[found.length % SITES.length] ?? ["", "", "", "", ""];
    const long = count === Infinity ? ` ${"lorem ipsum dolor ".repeat(56)}` : "";
    found.push({
      site_name: site,
      title: `${title} ${query}`,
      url: `https://${host}/${encodeURIComponent(query)}${found.length >= SITES.length ? `/${found.length}` : ""}`,
      snippet: snippet + long,
      content: "",
      date,
      icon: `https://${host}/favicon.ico`,
      mime: "text/html",
    });
  }
  return found;
}

/** A page as Markdown, repeated up to at least `bytes`. */
export function page(url: string, bytes: number): string {
  const head = `# Simulated page\n\nContent of ${url}.\n`;
  const body =
    "\n## 第一节 Section\n\nA paragraph with **bold** words, a [link](https://example.com/next) and 中文内容。\n\n" +
    "- first item\n- second item with `code`\n\n| year | value |\n|---|---|\n| 2025 | 13.1 |\n| 2026 | 14.7 |\n";
  const times = Math.max(1, Math.ceil(bytes / Buffer.byteLength(body)));
  return head + body.repeat(times);
}

const DOCS: Record<string, string> = {
  arxiv: "- arxiv_search(query: string, max_results?: number, file_path: string): preprints that match",
  stock_finance_data:
    "- get_realtime_price(ticker: string, file_path: string): at most 3 tickers\n" +
    "- get_history_price(ticker: string, start: string, end: string, file_path: string): at most 10 tickers",
  wind: "- wind_search_fields(query: string): field names\n- wind_minutes(code: string, fields: string, file_path: string)",
  caixin: "- caixin_api_search(query: string): finds one of 600 APIs",
};

export function describeSource(name: string | undefined): string {
  if (name === undefined) return "";
  return `## ${name}\n\n${DOCS[name] ?? "- demo_api(query: string, file_path?: string): simulated API"}`;
}

const CSV = "date,open,close\n2026-11-19,101.2,103.4\n2026-11-20,103.4,102.9\n";

/** Everything an API can answer with; the name of the API picks the kind. */
export function callSource(source: string, api: string, params: JsonObject, hugeBytes: number): JsonObject {
  const known = describeSource(source).includes(`${api}(`);
  const filePath = params["file_path"] ?? params["filepath"];
  const text = (value: string, files: Json[] = []): JsonObject => ({
    is_success: true,
    result: {
      assistant: [{ type: "text", text: value }],
      user: [{ type: "text", text: `${source}.${api}: 2 rows` }],
    },
    ...(files.length > 0 ? { files } : {}),
    error: null,
  });
  switch (api) {
    case "sim_empty":
      return { is_success: true, result: {}, error: null };
    case "sim_huge":
      return text(`row,value\n${"2026-11-20,1234567.89\n".repeat(Math.ceil(hugeBytes / 22))}`);
    case "sim_error_text":
      return { is_success: false, error: "quota of this source is used up" };
    case "sim_error_record":
      return { is_success: false, error: { assistant: [{ type: "text", text: "ticker not found" }], user: [] } };
    case "sim_escape":
      return text("files with hostile names", [
        { name: "../outside.csv", content: CSV, encoding: "utf-8" },
        { name: "/etc/outside.csv", content: CSV, encoding: "utf-8" },
        { name: "package.json", content: "{}", encoding: "utf-8" },
      ]);
    case "sim_binary":
      return text("a picture", [{ name: String(filePath), content: "iVBORw0KGgo=", encoding: "base64" }]);
  }
  if (!known) return { is_success: false, error: `API_NOT_FOUND: ${source} has no API named ${api}` };
  if (describeSource(source).includes("file_path: string)") && typeof filePath !== "string") {
    return { is_success: false, error: "Missing required parameters: file_path" };
  }
  const preview = `data_preview:\n${CSV}`;
  if (typeof filePath !== "string") return text(preview);
  return text(`${preview}\nThe full data was written as CSV.`, [{ name: filePath, content: CSV, encoding: "utf-8" }]);
}
