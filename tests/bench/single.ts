/** Measurements without peers: latency of the first token and of the end, and memory. */
import type { Bench } from "./bench.ts";
import type { OpenStreams, OpenStreamsSpec } from "./open-streams-child.ts";
import { median } from "./report.ts";

/** Goal for an open stream, in KiB of the resident set. */
const KIB_PER_STREAM = 48;

export async function latency(bench: Bench): Promise<void> {
  const answer = await bench.program("latency.ts", [bench.quick ? "5" : "60"]);
  const { socketMs, oursMs } = JSON.parse(answer) as { socketMs: number; oursMs: number };
  const more = bench.report.bar("first words, later than a bare socket", oursMs - socketMs, "ms", 1);
  bench.report.say(
    `- First words after the service wrote them: bare socket ${socketMs.toFixed(2)} ms, ours ${oursMs.toFixed(2)} ms, ` +
      `difference ${more}.`,
  );
  for (const streams of [1, 8]) {
    const ended = await bench.program("end-child.ts", [bench.quick ? "16" : "160", String(streams)]);
    const { medianMs, p95Ms } = JSON.parse(ended) as { medianMs: number; p95Ms: number };
    const what = `end of a turn, ${streams} side by side`;
    bench.report.say(
      `- The ${what}, after the service wrote it: median ${bench.report.bar(`${what}: median`, medianMs, "ms", 20)} ms, p95 ` +
        `${bench.report.bar(`${what}: p95`, p95Ms, "ms", 40)} ms.`,
    );
  }
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
  await openStreams(bench);
}

/** What a stream keeps while it is open: the growth of the resident set, divided by the number of streams. */
async function openStreams(bench: Bench): Promise<void> {
  const rows: string[][] = [];
  for (const subject of ["client", "pi", "floor"] as const) {
    for (const protocol of ["openai", "anthropic"] as const) {
      if (subject === "floor" && protocol === "anthropic") continue;
      const cells = [];
      for (const streams of bench.quick ? [64] : [64, 256]) {
        const seen: OpenStreams[] = [];
        for (let run = 0; run < bench.runs; run += 1) {
          await bench.service.reset();
          await bench.service.setDefault({
            steps: [{ text: "word ".repeat(20), size: 5 }, { pauseMs: 120_000 }, { text: "end" }],
          });
          const spec: OpenStreamsSpec = { subject, protocol, streams, prompt: 250 };
          seen.push(JSON.parse(await bench.program("open-streams-child.ts", [JSON.stringify(spec)])) as OpenStreams);
        }
        const what = `${subject}, ${protocol}, ${streams} open streams`;
        const kib = median(seen.map(({ kibPerStream }) => kibPerStream));
        cells.push(bench.report.bar(what, kib, "KiB each", subject === "floor" ? undefined : KIB_PER_STREAM));
        cells.push(median(seen.map(({ heapKibPerStream }) => heapKibPerStream)).toFixed(1));
      }
      rows.push([`${subject}, ${protocol}`, ...cells]);
    }
  }
  bench.report.say("", "**open streams**: KiB of the resident set per stream that has begun and waits", "");
  const counts = bench.quick ? [64] : [64, 256];
  const head = counts.flatMap((streams) => [`${streams} streams`, "of it in JavaScript"]);
  bench.report.table(["subject", ...head], rows);
}
