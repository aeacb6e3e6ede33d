/** How often streams wake the threads of a process: battery, not throughput. Beside `fetch` and a parser in the same run. */
import type { Bench } from "./bench.ts";
import { median } from "./report.ts";
import type { Wakeups, WakeupsSpec } from "./wakeups-child.ts";

/** Streams, deltas per second and stream, and the goal for our CPU in milliseconds per second. */
const CASES: readonly { streams: number; rate: number; cpuGoal?: number }[] = [
  { streams: 1, rate: 20 },
  { streams: 1, rate: 50 },
  { streams: 1, rate: 100, cpuGoal: 6 },
  { streams: 8, rate: 100, cpuGoal: 20 },
  { streams: 8, rate: 250 },
];

/** Goal for wake-ups of all threads per second, whatever the number of streams and deltas. */
const GOAL = 80;

export async function wakeups(bench: Bench): Promise<void> {
  if (process.platform !== "linux") return bench.report.say("**wakeups**: counted on Linux only", "");
  const seconds = bench.quick ? 2 : 5;
  const rows: string[][] = [];
  for (const { streams, rate, cpuGoal } of CASES) {
    const what = `${streams} × ${rate}/s`;
    const measured = async (subject: WakeupsSpec["subject"]): Promise<Wakeups> => {
      const results: Wakeups[] = [];
      for (let run = 0; run < bench.runs; run += 1) {
        await bench.service.reset();
        await bench.service.enqueue({ steps: [{ text: "warm" }] });
        const count = rate * (seconds + 4);
        await bench.service.setDefault({
          steps: [{ repeat: { kind: "text", count, text: "word ", perSecond: rate } }],
        });
        const spec: WakeupsSpec = { subject, streams, seconds };
        results.push(JSON.parse(await bench.program("wakeups-child.ts", [JSON.stringify(spec)])) as Wakeups);
      }
      const of = (member: "perSecond" | "cpuMsPerSecond"): number => median(results.map((result) => result[member]));
      return { perSecond: of("perSecond"), cpuMsPerSecond: of("cpuMsPerSecond"), threads: results[0]?.threads ?? {} };
    };
    const floor = await measured("floor");
    const ours = await measured("ours");
    const anthropic = await measured("ours-anthropic");
    rows.push([
      what,
      bench.report.bar(`wake-ups, ${what}`, ours.perSecond, "/s", GOAL),
      anthropic.perSecond.toFixed(0),
      floor.perSecond.toFixed(0),
      bench.report.bar(`CPU, ${what}`, ours.cpuMsPerSecond, "ms/s", cpuGoal),
      floor.cpuMsPerSecond.toFixed(1),
      Object.entries(ours.threads)
        .map(([name, share]) => `${name} ${share}`)
        .join(", "),
    ]);
  }
  bench.report.say("**wakeups**: voluntary context switches of all threads while streams flow", "");
  bench.report.table(
    ["streams", "ours /s", "ours, messages /s", "fetch /s", "ours CPU ms/s", "fetch CPU ms/s", "our threads"],
    rows,
  );
}
