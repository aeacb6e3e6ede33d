/**
 * `node --expose-gc tests/bench/files.ts [runs]`
 *
 * Media beside the peers: a history with images over ten turns (once more in a new process with a rotated token), many known
 * images, and one large upload. The service runs in a process of its own; medians of fresh processes.
 */
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { startSimulator } from "../simulator/index.ts";
import type { Span } from "./files-child.ts";

const runs = Number(process.argv[2] ?? 3);
const simulator = await startSimulator({ maxBodyBytes: 512 * 1024 * 1024, promptCacheTtlMs: 1 });

function token(serial: number): string {
  const payload = Buffer.from(JSON.stringify({ sub: "bench", serial })).toString("base64url");
  const value = `eyJhbGciOiJub25lIn0.${payload}.x`;
  simulator.credentials.add(value);
  return value;
}

async function child(scene: string, subject: string, home: string, serial: number): Promise<Span[]> {
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ["--expose-gc", join(import.meta.dirname, "files-child.ts"), scene, subject],
    {
      env: { ...process.env, BENCH_URL: simulator.baseUrl, BENCH_KEY: token(serial), BENCH_HOME: home },
      timeout: 300_000,
    },
  );
  return JSON.parse(stdout) as Span[];
}

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

function row(name: string, spans: Span[], more = ""): void {
  const of = (member: keyof Span): string => median(spans.map((span) => span[member])).toFixed(1);
  console.log(`| ${name} | ${of("wall")} | ${of("main")} | ${of("delay")} | ${of("cpu")} | ${of("rssMb")} | ${more} |`);
}

function wire(): string {
  const bytes = simulator.requests.reduce((sum, record) => sum + Number(record.headers["content-length"] ?? 0), 0);
  const files = simulator.requests.filter(({ endpoint }) => endpoint === "files").length;
  return `${(bytes / 1e6).toFixed(1)} MB, ${files} uploads`;
}

console.log("| case | wall ms | main thread ms | worst delay ms | CPU ms | RSS + MB | wire |");
console.log("|---|---:|---:|---:|---:|---:|---|");
try {
  for (const [scene, subjects] of [
    ["ten", ["pi-anthropic", "ours"]],
    ["thirty", ["ours"]],
    ["upload", ["floor", "ours"]],
  ] as const) {
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
      row(`${scene}, ${subject}, first turn`, first, traffic);
      if (later.length > 0) row(`${scene}, ${subject}, later turn`, later);
      if (subject === "ours" && scene === "ten") {
        simulator.requests.length = 0;
        const [start] = await child(scene, subject, home, 2);
        if (start !== undefined) row(`${scene}, ${subject}, new process and token, first turn`, [start], wire());
      }
      rmSync(home, { recursive: true });
    }
  }
} finally {
  await simulator.close();
}
