/** Kimi's tools: time added to the service's own, and how long answers of 5 MB keep the main thread busy. */
import type { Bench } from "./bench.ts";

/** Milliseconds. */
export interface Times {
  median: number;
  p95: number;
}

/** What tools-child.ts prints. */
export interface ToolsReport {
  bare: Times;
  search: Times;
  /** Main thread busy with an answer of 5 MB, by call. */
  huge: Record<string, number>;
}

export async function tools(bench: Bench): Promise<void> {
  const { report } = bench;
  const args = bench.quick ? ["20", "1"] : ["200", "5"];
  const { bare, search, huge } = JSON.parse(await bench.program("tools-child.ts", args)) as ToolsReport;
  report.say("**tools**: search beside a bare keep-alive request with the same body, and answers of 5 MB", "");
  report.table(
    ["case", "median ms", "p95 ms"],
    [
      ["bare request", bare.median.toFixed(2), bare.p95.toFixed(2)],
      ["search", search.median.toFixed(2), search.p95.toFixed(2)],
      ["search, on top", report.bar("tool call, on top of the service", search.median - bare.median, "ms", 5), ""],
      ...Object.entries(huge).map(([call, ms]) => [
        `5 MB: ${call}, main thread`,
        // Pi gets a truncated text; a program gets the complete one as a string, which V8 has to create.
        report.bar(`5 MB: ${call}`, ms, "ms main thread", call.endsWith("as a tool") ? 20 : undefined),
        "",
      ]),
    ],
  );
}
