/**
 * Media beside the peers: a history with images over ten turns (once more in a new process with a rotated token), many known
 * images, and one upload of 20 MB.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startSimulator } from "../simulator/index.ts";
import type { Bench } from "./bench.ts";
import type { Span } from "./measure.ts";
import { median } from "./report.ts";

/** Base64 of the image that is uploaded, in megabytes. */
const UPLOAD_BASE64_MB = 26.7;

type Scene = "ten" | "thirty" | "upload";
type Subject = "floor" | "pi-anthropic" | "ours" | "ours-file";

const SCENES: [Scene, string, Subject[]][] = [
  ["ten", "ten images", ["pi-anthropic", "ours"]],
  ["thirty", "thirty images", ["ours"]],
  ["upload", "upload", ["floor", "ours-file", "ours"]],
];

interface Row {
  what: string;
  span: Span;
  /** What went over the wire. */
  wire: string;
}

type Goal = Partial<Record<keyof Span, number>>;

/** Upper bounds of the issue; that of the upload's memory is for the process, Pi's own string not counted. */
const GOALS: Record<string, Goal> = {
  "ten images, ours, later turns": { main: 10, cpu: 15 },
  "thirty images, ours, later turns": { main: 5 },
  "upload, ours": { main: 10, rssMb: 1.5 * UPLOAD_BASE64_MB },
};

function medians(spans: Span[]): Span {
  const of = (member: keyof Span): number => median(spans.map((span) => span[member]));
  return {
    wall: of("wall"),
    main: of("main"),
    mainCpu: of("mainCpu"),
    delay: of("delay"),
    cpu: of("cpu"),
    rssMb: of("rssMb"),
  };
}

export async function files(bench: Bench): Promise<void> {
  const simulator = await startSimulator({ maxBodyBytes: 512 * 1024 * 1024, promptCacheTtlMs: 1 });
  const rows: Row[] = [];
  const token = (serial: number): string => {
    const payload = Buffer.from(JSON.stringify({ sub: "bench", serial })).toString("base64url");
    const value = `eyJhbGciOiJub25lIn0.${payload}.x`;
    simulator.credentials.add(value);
    return value;
  };
  const child = async (scene: Scene, subject: Subject, home: string, serial: number): Promise<Span[]> => {
    const env = { BENCH_URL: simulator.baseUrl, BENCH_KEY: token(serial), BENCH_HOME: home };
    return JSON.parse(await bench.program("files-child.ts", [scene, subject], env)) as Span[];
  };
  const wire = (): string => {
    const bytes = simulator.requests.reduce((sum, record) => sum + Number(record.headers["content-length"] ?? 0), 0);
    const count = simulator.requests.filter(({ endpoint }) => endpoint === "files").length;
    return `${(bytes / 1e6).toFixed(1)} MB, ${count} uploads`;
  };
  try {
    for (const [scene, title, subjects] of SCENES) {
      for (const subject of subjects) {
        const what = `${title}, ${subject}`;
        const first: Span[] = [];
        const later: Span[] = [];
        let home = "";
        let traffic = "";
        for (let run = 0; run < bench.runs; run += 1) {
          if (home !== "") rmSync(home, { recursive: true });
          home = mkdtempSync(join(tmpdir(), "kimi-bench-"));
          simulator.reset();
          simulator.setDefault({ steps: [{ text: "ok" }] });
          const [start, ...rest] = await child(scene, subject, home, 1);
          if (start !== undefined) first.push(start);
          later.push(...rest);
          traffic = wire();
        }
        rows.push({ what: later.length > 0 ? `${what}, first turn` : what, span: medians(first), wire: traffic });
        if (later.length > 0) rows.push({ what: `${what}, later turns`, span: medians(later), wire: "" });
        if (subject === "ours" && scene === "ten") {
          simulator.requests.length = 0;
          const [start] = await child(scene, subject, home, 2);
          if (start !== undefined) rows.push({ what: `${what}, new process and token`, span: start, wire: wire() });
        }
        rmSync(home, { recursive: true });
      }
    }
  } finally {
    await simulator.close();
  }
  show(bench, rows);
}

function show({ report }: Bench, rows: Row[]): void {
  const floor = rows.find(({ what }) => what === "upload, floor")?.span.wall;
  report.say(
    "**files**: histories with images of 1.5 and 2 MB over ten turns; one image of 20 MB uploaded. `floor` is a plain `fetch` of",
    "a Buffer, `ours-file` our client with the same Buffer, `ours` a whole turn with the image as base64",
    "",
  );
  report.table(
    ["case", "wall ms", "main thread ms", "its CPU ms", "worst delay ms", "CPU ms", "RSS + MB", "wire"],
    rows.map(({ what, span, wire }) => {
      const goal: Goal = { ...GOALS[what], ...(what.startsWith("upload, ours") && floor ? { wall: floor } : {}) };
      return [
        what,
        report.bar(`${what}: wall`, span.wall, "ms", goal.wall),
        report.bar(`${what}: main thread`, span.main, "ms", goal.main),
        span.mainCpu.toFixed(1),
        span.delay.toFixed(1),
        report.bar(`${what}: CPU`, span.cpu, "ms", goal.cpu),
        report.bar(`${what}: memory`, span.rssMb, "MB", goal.rssMb),
        wire,
      ];
    }),
  );
}
