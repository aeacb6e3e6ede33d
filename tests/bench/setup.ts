/** Measures one more turn of a long session: 1 MB of history in 400 messages, 60 tools. */
import type { Bench } from "./bench.ts";
import { CONVERSATION_SUBJECTS } from "./cases.ts";
import type { SetupCost } from "./setup-child.ts";

const MAIN_THREAD_MS = 4;
const MAIN_THREAD_WITH_HOOK_MS = 12;

/** Goals in times of `JSON.stringify`. */
const HANDOVER = 0.5;
const CPU = 1.5;

export function setup(bench: Bench): Promise<void> {
  return bench.unlimited(async (unlimited) => {
    await measure(unlimited);
    await compare(unlimited);
  });
}

/** Compares a turn with `JSON.stringify` of the same context. */
async function compare(bench: Bench): Promise<void> {
  const rows: string[][] = [];
  const floors: string[][] = [];
  for (const megabytes of [1, 2, 4]) {
    await bench.service.reset();
    await bench.service.setDefault({ steps: [{ text: "ok" }] });
    const output = await bench.program("setup-child.ts", [String(megabytes), bench.quick ? "10" : "60"]);
    const cost = JSON.parse(output) as SetupCost;
    const { stringify, handover, stringifyCpu, mainCpu, cpu } = cost;
    const what = `turn over ${megabytes} MB`;
    rows.push([
      String(megabytes),
      stringify.toFixed(2),
      handover.toFixed(2),
      bench.report.bar(`${what}: until it is handed over`, handover / stringify, "×", HANDOVER),
      `${(mainCpu / stringifyCpu).toFixed(2)}×`,
      bench.report.bar(`${what}: CPU`, cpu / stringifyCpu, "×", CPU),
    ]);
    const parts = [stringifyCpu, cpu, cost.messageCpu, cost.wordCpu, cost.fetchCpu, cost.httpCpu];
    floors.push([String(megabytes), ...parts.map((ms) => ms.toFixed(2))]);
  }
  bench.report.say("**setup** beside `JSON.stringify` of the same context", "");
  bench.report.table(
    ["MB", "stringify ms", "handed over after ms", "÷ stringify", "main thread's CPU ÷", "all CPU ÷"],
    rows,
  );
  bench.report.say("CPU ms of that turn, and of what it cannot do without", "");
  bench.report.table(
    ["MB", "stringify", "turn", "turn over one message", "turn over a word", "`fetch` of a body", "`node:http`"],
    floors,
  );
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
    for (const subject of CONVERSATION_SUBJECTS) {
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
