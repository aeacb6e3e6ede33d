/** Measurements without peers: latency of the first token, and memory growth. */
import type { Bench } from "./bench.ts";

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
