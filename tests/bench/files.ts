/**
 * Media beside the peers: a history with images over ten turns (once more in a new process with a rotated token), many known
 * images, and one upload of 20 MB. Every measurement in a fresh process. Used by main.ts.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startSimulator } from "../simulator/index.ts";
import type { Span } from "./files-child.ts";
import { against, median, type Program } from "./report.ts";

/** Base64 of the image that is uploaded, in megabytes. */
const UPLOAD_BASE64_MB = 26.7;

export interface FilesRow {
  case: string;
  spans: Span;
  /** What went over the wire. */
  wire: string;
}

type Bar = Partial<Record<keyof Span, number>>;

/** Upper bounds of the issue; those of the upload are for the process, Pi's own string not counted. */
const GOALS: Record<string, Bar> = {
  "ten images, ours, later turns": { main: 10, cpu: 15 },
  "ten images, ours, new process and token": {},
  "thirty images, ours, later turns": { main: 5 },
  "upload, ours": { main: 10, rssMb: 1.5 * UPLOAD_BASE64_MB },
};

/** Measures and returns rows; `wanted` chooses among `ten`, `thirty`, `upload`. */
export async function files(runs: number, program: Program, wanted: (name: string) => boolean): Promise<FilesRow[]> {
  const simulator = await startSimulator({ maxBodyBytes: 512 * 1024 * 1024, promptCacheTtlMs: 1 });
  const rows: FilesRow[] = [];
  const token = (serial: number): string => {
    const payload = Buffer.from(JSON.stringify({ sub: "bench", serial })).toString("base64url");
    const value = `eyJhbGciOiJub25lIn0.${payload}.x`;
    simulator.credentials.add(value);
    return value;
  };
  const child = async (scene: string, subject: string, home: string, serial: number): Promise<Span[]> => {
    const variables = { BENCH_URL: simulator.baseUrl, BENCH_KEY: token(serial), BENCH_HOME: home };
    return JSON.parse(await program("files-child.ts", [scene, subject], variables)) as Span[];
  };
  const wire = (): string => {
    const bytes = simulator.requests.reduce((sum, record) => sum + Number(record.headers["content-length"] ?? 0), 0);
    const count = simulator.requests.filter(({ endpoint }) => endpoint === "files").length;
    return `${(bytes / 1e6).toFixed(1)} MB, ${count} uploads`;
  };
  const add = (name: string, spans: Span[], traffic = ""): void => {
    const of = (member: keyof Span): number => median(spans.map((span) => span[member]));
    const row: Span = { wall: of("wall"), main: of("main"), delay: of("delay"), cpu: of("cpu"), rssMb: of("rssMb") };
    rows.push({ case: name, spans: row, wire: traffic });
  };
  try {
    for (const [scene, title, subjects] of [
      ["ten", "ten images", ["pi-anthropic", "ours"]],
      ["thirty", "thirty images", ["ours"]],
      ["upload", "upload", ["floor", "ours-file", "ours"]],
    ] as const) {
      if (!wanted(scene)) continue;
      for (const subject of subjects) {
        const first: Span[] = [];
        const later: Span[] = [];
        let home = "";
        let traffic = "";
        for (let run = 0; run < runs; run += 1) {
          if (home !== "") rmSync(home, { recursive: true });
          home = mkdtempSync(join(tmpdir(), "kimi-bench-"));
          simulator.reset();
          simulator.setDefault({ steps: [{ text: "ok" }] });
          const [start, ...rest] = await child(scene, subject, home, 1);
          if (start !== undefined) first.push(start);
          later.push(...rest);
          traffic = wire();
        }
        if (later.length === 0) add(`${title}, ${subject}`, first, traffic);
        else {
          add(`${title}, ${subject}, first turn`, first, traffic);
          add(`${title}, ${subject}, later turns`, later);
        }
        if (subject === "ours" && scene === "ten") {
          simulator.requests.length = 0;
          add(`${title}, ours, new process and token`, (await child(scene, subject, home, 2)).slice(0, 1), wire());
        }
        rmSync(home, { recursive: true });
      }
    }
  } finally {
    await simulator.close();
  }
  return rows;
}

/** The rows as a table, with goals. */
export function filesTable(rows: FilesRow[]): string[] {
  const floor = rows.find((row) => row.case === "upload, floor")?.spans.wall;
  const lines = rows.map(({ case: name, spans, wire }) => {
    const goal: Bar = { ...GOALS[name], ...(name.startsWith("upload, ours") && floor ? { wall: floor } : {}) };
    const cell = (member: keyof Span): string => against(spans[member], goal[member]);
    return `| ${name} | ${cell("wall")} | ${cell("main")} | ${cell("delay")} | ${cell("cpu")} | ${cell("rssMb")} | ${wire} |`;
  });
  return [
    "**media**: histories with images of 1.5 and 2 MB over ten turns; one image of 20 MB uploaded. `floor` is a plain `fetch` of",
    "a Buffer, `ours-file` our client with the same Buffer, `ours` a whole turn with the image as base64",
    "",
    "| case | wall ms | main thread ms | worst delay ms | CPU ms | RSS + MB | wire |",
    "|---|---:|---:|---:|---:|---:|---|",
    ...lines,
    "",
  ];
}
