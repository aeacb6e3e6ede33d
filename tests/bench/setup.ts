/** Measures one more turn of a long session: 1 MB of history in 400 messages, 60 tools. */
import type { Bench } from "./bench.ts";
import type { Subject } from "./cases.ts";

const SUBJECTS: Subject[] = ["pi-openai", "pi-anthropic", "ours", "ours-anthropic"];
const MAIN_THREAD_MS = 4;
const MAIN_THREAD_WITH_HOOK_MS = 12;

export function setup(bench: Bench): Promise<void> {
  return bench.unlimited(measure);
}

/** Kind of request; only code and English, the usual text, have goals. */
const QUESTIONS = [
  { title: "", script: "code", payloadHook: false, goal: MAIN_THREAD_MS },
  { title: ", with a payload hook", script: "code", payloadHook: true, goal: MAIN_THREAD_WITH_HOOK_MS },
  { title: ", Chinese", script: "chinese", payloadHook: false, goal: undefined },
  { title: ", Chinese, with a payload hook", script: "chinese", payloadHook: true, goal: undefined },
] as const;

async function measure(bench: Bench): Promise<void> {
  const rows: string[][] = [];
  for (const { title, script, payloadHook, goal } of QUESTIONS) {
    for (const subject of SUBJECTS) {
      const spec = { subject, historyBytes: 1e6, script, payloadHook };
      const { wall, main, mainCpu, cpu, rssMb } = await bench.measure({ steps: [{ text: "ok" }] }, spec);
      const what = `turn set-up, ${subject}${title}: main thread`;
      rows.push([
        `${subject}${title}`,
        wall.toFixed(0),
        bench.report.bar(what, main, "ms", subject.startsWith("ours") ? goal : undefined),
        mainCpu.toFixed(1),
        cpu.toFixed(0),
        rssMb.toFixed(0),
      ]);
    }
  }
  bench.report.say("**setup**: one turn with a short answer over 1 MB of history, 400 messages, 60 tools", "");
  bench.report.table(["subject", "wall ms", "main thread ms", "its CPU ms", "CPU ms", "RSS + MB"], rows);
}
