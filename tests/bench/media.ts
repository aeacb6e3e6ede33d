/**
 * Compares media with the peers: a history with images over ten turns (again in a new process with a rotated token), many known
 * images, one upload of 20 MB, and a video on disk.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Simulator, startSimulator } from "../simulator/index.ts";
import type { Bench } from "./bench.ts";
import type { Span } from "./measure.ts";
import { median } from "./report.ts";

/** Size of the uploaded image in megabytes of base64; JavaScript holds it already. */
const UPLOAD_BASE64_MB = 26.7;

type Goal = Partial<Record<keyof Span, number>>;

interface Row {
  name: string;
  spans: Span[];
  wire: string;
  goal?: Goal;
}

export async function media(bench: Bench): Promise<void> {
  const simulator = await startSimulator({ maxBodyBytes: 512 * 1024 * 1024, promptCacheTtlMs: 1 });
  try {
    const rows: Row[] = [
      ...(await turns(bench, simulator, "ten", "pi-anthropic")),
      ...(await turns(bench, simulator, "ten", "ours", { main: 10, cpu: 15 })),
      ...(await turns(bench, simulator, "thirty", "ours", { main: 5 })),
      ...(await uploads(bench, simulator)),
      ...(await video(bench, simulator)),
    ];
    const members = ["wall", "main", "delay", "cpu", "rssMb"] as const;
    const units = { wall: "ms", main: "ms main thread", delay: "ms delay", cpu: "ms CPU", rssMb: "MB RSS" };
    bench.report.say(
      "**media**: ten images of 1.5 MB and thirty of 2 MB over ten turns; one of 20 MB uploaded; a video of 60 MB on disk. `floor` is a plain `fetch` of a",
      "Buffer, `ours-file` our client with the same Buffer, `ours` a whole turn with the image as base64",
      "",
    );
    bench.report.table(
      ["case", "wall ms", "main thread ms", "worst delay ms", "CPU ms", "RSS + MB", "wire"],
      rows.map(({ name, spans, wire, goal }) => [
        name,
        ...members.map((member) => {
          const value = median(spans.map((span) => span[member]));
          return bench.report.bar(name, value, units[member], goal?.[member]);
        }),
        wire,
      ]),
    );
  } finally {
    await simulator.close();
  }
}

async function turns(bench: Bench, simulator: Simulator, scene: string, subject: string, goal?: Goal): Promise<Row[]> {
  const first: Span[] = [];
  const later: Span[] = [];
  const restarted: Span[] = [];
  let [all, afterwards] = ["", ""];
  for (let run = 0; run < bench.runs; run += 1) {
    await fresh(simulator, async (home) => {
      const [start, ...rest] = await child(bench, simulator, [scene, subject], home, 1);
      if (start !== undefined) first.push(start);
      later.push(...rest);
      all = wire(simulator);
      if (subject !== "ours" || scene !== "ten") return;
      simulator.requests.length = 0;
      restarted.push(...(await child(bench, simulator, [scene, subject], home, 2)).slice(0, 1));
      afterwards = wire(simulator);
    });
  }
  const name = `${scene} images, ${subject}`;
  const rows: Row[] = [
    { name: `${name}, first turn`, spans: first, wire: `${all} in ten turns` },
    { name: `${name}, later turns`, spans: later, wire: "", ...(goal ? { goal } : {}) },
  ];
  if (restarted.length > 0) rows.push({ name: `${name}, new process and token`, spans: restarted, wire: afterwards });
  return rows;
}

/** The subjects alternate, so that load on the machine affects all of them. */
async function uploads(bench: Bench, simulator: Simulator): Promise<Row[]> {
  const spans: Record<string, Span[]> = { floor: [], "ours-file": [], ours: [] };
  for (let run = 0; run < bench.runs; run += 1) {
    for (const [subject, list] of Object.entries(spans)) {
      await fresh(simulator, async (home) => {
        list.push(...(await child(bench, simulator, ["upload", subject], home, 1)));
      });
    }
  }
  const wall = median((spans["floor"] ?? []).map((span) => span.wall));
  const goals: Record<string, Goal> = {
    "ours-file": { wall, main: 10 },
    ours: { wall, main: 10, rssMb: UPLOAD_BASE64_MB },
  };
  return Object.entries(spans).map(([subject, list]) => {
    const goal = goals[subject];
    return { name: `upload, ${subject}`, spans: list, wire: "", ...(goal ? { goal } : {}) };
  });
}

/** A prompt that names a video on disk, and the same prompt again. */
async function video(bench: Bench, simulator: Simulator): Promise<Row[]> {
  const first: Span[] = [];
  const again: Span[] = [];
  let all = "";
  for (let run = 0; run < bench.runs; run += 1) {
    await fresh(simulator, async (home) => {
      const [upload, known] = await child(bench, simulator, ["video", "ours"], home, 1);
      if (upload !== undefined) first.push(upload);
      if (known !== undefined) again.push(known);
      all = wire(simulator);
    });
  }
  const goal = { main: 10, rssMb: 16 };
  return [
    { name: "video of 60 MB on disk, uploaded", spans: first, wire: `${all} in all`, goal },
    { name: "video of 60 MB on disk, known", spans: again, wire: "", goal },
  ];
}

async function fresh(simulator: Simulator, work: (home: string) => Promise<void>): Promise<void> {
  const home = mkdtempSync(join(tmpdir(), "kimi-bench-"));
  simulator.reset();
  simulator.setDefault({ steps: [{ text: "ok" }] });
  try {
    await work(home);
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
}

async function child(
  bench: Bench,
  simulator: Simulator,
  args: string[],
  home: string,
  serial: number,
): Promise<Span[]> {
  const payload = Buffer.from(JSON.stringify({ sub: "bench", serial })).toString("base64url");
  const token = `eyJhbGciOiJub25lIn0.${payload}.x`;
  simulator.credentials.add(token);
  const env = { BENCH_URL: simulator.baseUrl, BENCH_KEY: token, BENCH_HOME: home };
  return JSON.parse(await bench.program("media-child.ts", args, env)) as Span[];
}

function wire(simulator: Simulator): string {
  const bytes = simulator.requests.reduce((sum, record) => sum + Number(record.headers["content-length"] ?? 0), 0);
  const count = simulator.requests.filter(({ endpoint }) => endpoint === "files").length;
  return `${(bytes / 1e6).toFixed(1)} MB, ${count} uploads`;
}
