/** What it costs to send one more turn of a long session: 1 MB of history in 400 messages, 60 tools. */
import type { Bench } from "./bench.ts";
import type { Subject } from "./cases.ts";

const SUBJECTS: Subject[] = ["pi-openai", "pi-anthropic", "ours", "ours-anthropic"];
const MAIN_THREAD_MS = 4;
const MAIN_THREAD_WITH_HOOK_MS = 12;

export function setup(bench: Bench): Promise<void> {
  return bench.unlimited(measure);
}

async function measure(bench: Bench): Promise<void> {
  const rows: string[][] = [];
  for (const payloadHook of [false, true]) {
    for (const subject of SUBJECTS) {
      const spec = { subject, historyBytes: 1e6, payloadHook };
      const { wall, main, mainCpu, cpu, rssMb } = await bench.measure({ steps: [{ text: "ok" }] }, spec);
      const what = payloadHook ? `${subject}, with a payload hook` : subject;
      const goal = payloadHook ? MAIN_THREAD_WITH_HOOK_MS : MAIN_THREAD_MS;
      rows.push([
        what,
        wall.toFixed(0),
        bench.report.bar(
          `turn set-up, ${what}: main thread`,
          main,
          "ms",
          subject.startsWith("ours") ? goal : undefined,
        ),
        mainCpu.toFixed(1),
        cpu.toFixed(0),
        rssMb.toFixed(0),
      ]);
    }
  }
  bench.report.say("**setup**: one turn with a short answer over 1 MB of history, 400 messages, 60 tools", "");
  bench.report.table(["subject", "wall ms", "main thread ms", "its CPU ms", "CPU ms", "RSS + MB"], rows);
}
