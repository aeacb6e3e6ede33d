/** Measurements with a program of their own: how soon words arrive, whether memory grows, what tools cost. */
import type { Bench } from "./bench.ts";
import type { ToolsReport } from "./tools.ts";

export async function latency(bench: Bench): Promise<void> {
  const answer = await bench.program("latency.ts", [bench.quick ? "5" : "60"]);
  const { socketMs, oursMs } = JSON.parse(answer) as { socketMs: number; oursMs: number };
  const more = bench.report.bar("first words, later than a bare socket", oursMs - socketMs, "ms", 1);
  bench.report.say(
    `- First words after the service wrote them: bare socket ${socketMs.toFixed(2)} ms, ours ${oursMs.toFixed(2)} ms, ` +
      `difference ${more}.`,
  );
}

export async function memory(bench: Bench): Promise<void> {
  await bench.service.reset();
  await bench.service.setDefault({
    steps: [
      { thinking: "Hm. ".repeat(50), size: 8 },
      { text: "word ".repeat(50), size: 8 },
    ],
  });
  const answer = await bench.program("memory.ts", [bench.quick ? "50" : "1000"]);
  const { turns, beforeMb, afterMb, growthKbPerTurn } = JSON.parse(answer) as Record<string, number>;
  bench.report.say(
    `- RSS over ${turns} turns: ${beforeMb?.toFixed(1)} MB after the first fifth, ${afterMb?.toFixed(1)} MB at the end ` +
      `(${growthKbPerTurn?.toFixed(2)} KB per turn).`,
  );
}

export async function tools(bench: Bench): Promise<void> {
  const answer = await bench.program("tools.ts", bench.quick ? ["20", "1"] : ["200", "5"]);
  const { bareMs, toolMs, overheadMs, huge } = JSON.parse(answer) as ToolsReport;
  const { report } = bench;
  report.say("**tools**: search over a bare keep-alive request with the same body; answers of 5 MB", "");
  report.table(
    ["case", "median ms", "p95 ms"],
    [
      ["bare request", bareMs.median.toFixed(2), bareMs.p95.toFixed(2)],
      ["search", toolMs.median.toFixed(2), toolMs.p95.toFixed(2)],
      ["on top", report.bar("search: on top of a bare request", overheadMs, "ms", 5), ""],
      ...Object.entries(huge).map(([call, ms]) => {
        const goal = call.endsWith("as a tool") ? 20 : undefined;
        return [`5 MB: ${call}, main thread`, report.bar(`5 MB: ${call}: main thread`, ms, "ms", goal), ""];
      }),
    ],
  );
}
