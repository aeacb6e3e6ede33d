/** Compares our stream with its peers, case by case. */
import type { Bench } from "./bench.ts";
import { type Case, cases, type Subject, SUBJECTS } from "./cases.ts";
import type { Measured } from "./child.ts";

export interface StreamRow extends Measured {
  case: string;
  subject: Subject;
}

/** Read the whole text again with every delta: minutes for 200 KB. Pi 1.5.2 no longer does. */
const QUADRATIC: readonly Subject[] = ["pi-openai", "pi-anthropic"];

/** Measures the selected cases with every subject. */
export async function streams(bench: Bench, wanted: (name: string) => boolean): Promise<StreamRow[]> {
  const all: StreamRow[] = [];
  for (const one of cases(bench.quick ? 0.05 : 1).filter(({ name }) => wanted(name))) {
    const rows: StreamRow[] = [];
    const withAll = !one.quadratic || bench.full || bench.quick;
    for (const subject of SUBJECTS.filter((name) => withAll || !QUADRATIC.includes(name))) {
      const measured = await bench.measure(one.scenario, { subject, streams: one.streams });
      rows.push({ case: one.name, subject, ...measured });
    }
    show(bench, one, rows);
    if (!withAll) {
      bench.report.say(
        "The parser of Pi 0.87.1 is quadratic and was left out here; `arguments-25k` shows it, `--full` measures it.",
        "",
      );
    }
    all.push(...rows);
  }
  return all;
}

function show({ report }: Bench, one: Case, rows: StreamRow[]): void {
  const floor = rows.find(({ subject }) => subject === "floor")?.cpu ?? Number.NaN;
  const peers = rows.filter(({ subject }) => !subject.startsWith("ours") && subject !== "floor");
  const best = Math.min(...peers.map(({ cpu }) => cpu));
  report.say(`**${one.name}**: ${one.what}`, "");
  report.table(
    [
      "subject",
      "wall ms",
      "main thread ms",
      "its CPU ms",
      "worst delay ms",
      "CPU ms",
      "CPU / floor",
      "CPU / best peer",
      "RSS + MB",
      "events",
    ],
    rows.map((row) => {
      const { main, delay, cpu } = row.subject.startsWith("ours") ? one.goal : {};
      const what = `${one.name}, ${row.subject}`;
      return [
        row.subject,
        row.wall.toFixed(0),
        report.bar(`${what}: main thread`, row.main, "ms", main),
        row.mainCpu.toFixed(1),
        report.bar(`${what}: worst delay`, row.delay, "ms", delay),
        report.bar(`${what}: CPU`, row.cpu, "ms", cpu === "floor" ? floor : cpu),
        `${(row.cpu / floor).toFixed(2)}×`,
        `${(row.cpu / best).toFixed(2)}×`,
        row.rssMb.toFixed(0),
        String(row.events),
      ];
    }),
  );
}
