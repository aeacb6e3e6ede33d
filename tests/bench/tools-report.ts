/** What tools.ts measures, as lines of a table. */
import { against } from "./report.ts";

/** Milliseconds. */
export interface Times {
  median: number;
  p95: number;
}

export interface ToolsReport {
  bareMs: Times;
  toolMs: Times;
  overheadMs: number;
  /** Main thread busy with an answer of 5 MB, by call. */
  huge: Record<string, number>;
}

export function toolsTable({ bareMs, toolMs, overheadMs, huge }: ToolsReport): string[] {
  const busy = Object.entries(huge).map(([call, ms]) => {
    const goal = call.endsWith("as a tool") ? 20 : undefined;
    return `| 5 MB: ${call}, main thread | ${against(ms, goal)} | |`;
  });
  return [
    "**tools**: search over a bare keep-alive request with the same body; answers of 5 MB",
    "",
    "| case | median ms | p95 ms |",
    "|---|---:|---:|",
    `| bare request | ${bareMs.median.toFixed(2)} | ${bareMs.p95.toFixed(2)} |`,
    `| search | ${toolMs.median.toFixed(2)} | ${toolMs.p95.toFixed(2)} |`,
    `| on top | ${against(overheadMs, 5)} | |`,
    ...busy,
    "",
  ];
}
