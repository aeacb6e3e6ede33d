/**
 * `npm run bench [-- --quick] [--full] [--only text,paced] [--runs 3]`
 *
 * Our stream beside its peers in one run: the same simulator in a process of its own, every measurement in a fresh process,
 * medians. Prints a table with goals and ratios and writes it to `.cache/bench.json`.
 */
import { execFile } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { parseArgs, promisify } from "node:util";
import { startService } from "../support/service.ts";
import { type Case, cases, type Goal, type Subject, SUBJECTS } from "./cases.ts";
import type { Measured } from "./child.ts";
import { login } from "./login.ts";
import { startup } from "./startup.ts";

const ROOT = join(import.meta.dirname, "..", "..");
const { values: flags } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    full: { type: "boolean", default: false },
    only: { type: "string", default: "" },
    runs: { type: "string" },
  },
});
const runs = Number(flags.runs ?? (flags.quick ? 1 : 3));
const only = flags.only.split(",").filter(Boolean);
const wanted = (name: string): boolean => only.length === 0 || only.includes(name);

interface Row extends Measured {
  case: string;
  subject: Subject;
}

const service = await startService();
const rows: Row[] = [];
const notes: string[] = [];

async function program(file: string, args: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ["--expose-gc", join(import.meta.dirname, file), ...args],
    { env: { ...process.env, BENCH_URL: service.baseUrl, BENCH_KEY: service.apiKey }, timeout: 900_000 },
  );
  return stdout;
}

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

async function measure(one: Case, subject: Subject): Promise<Row> {
  const results: Measured[] = [];
  for (let run = 0; run < runs; run += 1) {
    await service.reset();
    await service.enqueue({ steps: [{ text: "warm" }] });
    await service.setDefault(one.scenario);
    results.push(JSON.parse(await program("child.ts", [subject, String(one.streams)])) as Measured);
  }
  const of = (member: keyof Measured): number => median(results.map((result) => result[member]));
  return {
    case: one.name,
    subject,
    wall: of("wall"),
    main: of("main"),
    delay: of("delay"),
    cpu: of("cpu"),
    rssMb: of("rssMb"),
    events: of("events"),
  };
}

/** `12.3` or `12.3 ≤ 15 ✓`. */
function against(value: number, goal: number | undefined): string {
  const text = value.toFixed(value < 100 ? 1 : 0);
  return goal === undefined ? text : `${text} ${value <= goal ? "✓" : "✗"} ≤ ${goal.toFixed(0)}`;
}

function table(one: Case): string[] {
  const mine = rows.filter((row) => row.case === one.name);
  const floor = mine.find((row) => row.subject === "floor");
  const bar = (row: Row): Goal => (row.subject.startsWith("ours") ? one.goal : {});
  const lines = mine.map((row) => {
    const goal = bar(row);
    const cpu = goal.cpu === "floor" ? floor?.cpu : goal.cpu;
    const ratio = floor === undefined ? "" : `${(row.cpu / floor.cpu).toFixed(2)}×`;
    const cells = [
      row.subject,
      row.wall.toFixed(0),
      against(row.main, goal.main),
      against(row.delay, goal.delay),
      against(row.cpu, cpu),
      ratio,
      row.rssMb.toFixed(0),
      String(row.events),
    ];
    return `| ${cells.join(" | ")} |`;
  });
  return [
    `**${one.name}**: ${one.what}`,
    "",
    "| subject | wall ms | main thread ms | worst delay ms | CPU ms | CPU / floor | RSS + MB | events |",
    "|---|---:|---:|---:|---:|---:|---:|---:|",
    ...lines,
    "",
  ];
}

const output: string[] = [];
const say = (...lines: string[]): void => {
  output.push(...lines);
  for (const line of lines) console.log(line);
};

try {
  say(`Node ${process.versions.node}, ${cpus().length} × ${cpus()[0]?.model ?? "?"}, median of ${runs}`, "");
  for (const one of cases(flags.quick ? 0.05 : 1).filter(({ name }) => wanted(name))) {
    for (const subject of SUBJECTS) {
      // Pi's parser reads the whole text again per delta: minutes for 200 KB (users.md §4.2).
      if (one.quadratic && subject.startsWith("pi-") && !flags.full && !flags.quick) continue;
      rows.push(await measure(one, subject));
    }
    say(...table(one));
    if (one.quadratic && !flags.full && !flags.quick) {
      say(
        "Pi's built-in parser is quadratic and was left out here; `arguments-25k` shows it, `--full` measures it.",
        "",
      );
    }
  }
  if (wanted("latency")) {
    const latency = JSON.parse(await program("latency.ts", [flags.quick ? "5" : "60"])) as {
      socketMs: number;
      oursMs: number;
    };
    const more = latency.oursMs - latency.socketMs;
    notes.push(
      `First words after the service wrote them: bare socket ${latency.socketMs.toFixed(2)} ms, ours ` +
        `${latency.oursMs.toFixed(2)} ms, ${more.toFixed(2)} ms more ${more <= 1 ? "✓" : "✗"} ≤ 1.`,
    );
  }
  if (wanted("memory")) {
    await service.reset();
    await service.setDefault({
      steps: [
        { thinking: "Hm. ".repeat(50), size: 8 },
        { text: "word ".repeat(50), size: 8 },
      ],
    });
    const memory = JSON.parse(await program("memory.ts", [flags.quick ? "50" : "1000"])) as {
      turns: number;
      beforeMb: number;
      afterMb: number;
      growthKbPerTurn: number;
    };
    notes.push(
      `RSS over ${memory.turns} turns: ${memory.beforeMb.toFixed(1)} MB after the first fifth, ` +
        `${memory.afterMb.toFixed(1)} MB at the end (${memory.growthKbPerTurn.toFixed(2)} KB per turn).`,
    );
  }
  if (wanted("login")) notes.push(...(await login()));
  if (wanted("startup")) notes.push(...startup());
  say(...notes.map((note) => `- ${note}`));
} finally {
  service.stop();
}
mkdirSync(join(ROOT, ".cache"), { recursive: true });
writeFileSync(
  join(ROOT, ".cache", "bench.json"),
  JSON.stringify({ rows, notes, runs, quick: flags.quick }, undefined, 2),
);
writeFileSync(join(ROOT, ".cache", "bench.md"), `${output.join("\n")}\n`);
