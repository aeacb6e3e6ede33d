/**
 * Measures Kimi's tools: time added to the service's own, and how long 5 MB keep the JavaScript thread busy.
 *
 * The service is the simulator in a process of its own; its own time is a bare keep-alive request of Node's http client with the
 * same body. `tools-child.ts <rounds> <rounds with 5 MB>` prints one line of JSON.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { Agent, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { host } from "../../extension/environment.ts";
import { loadAddon } from "../../extension/native/loader.ts";
import { KimiServices, type ServiceOptions } from "../../extension/services.ts";
import type { Times, ToolsReport } from "./tools.ts";

const ROUNDS = Number(process.argv[2]);
const HUGE_ROUNDS = Number(process.argv[3]);

const child = spawn(
  process.execPath,
  [join(import.meta.dirname, "../simulator/main.ts"), "--port", "0", "--identity-gate", "agent"],
  {
    stdio: ["ignore", "pipe", "inherit"],
  },
);
const [line] = (await once(child.stdout, "data")) as [Buffer];
const base = /KIMI_CODE_BASE_URL=(\S+)/.exec(line.toString())?.[1] ?? "";
const oauth = /KIMI_CODE_OAUTH_HOST=(\S+)/.exec(line.toString())?.[1] ?? "";
const machine = mkdtempSync(join(tmpdir(), "kimi-bench-"));

try {
  const login = await fetch(`${new URL(base).origin}/__admin/login`, { method: "POST", body: "{}" });
  const tokens = (await login.json()) as { access: string; refresh: string };
  const entry = { type: "oauth", ...tokens, expires: Date.now() + 900_000 };
  writeFileSync(join(machine, "auth.json"), JSON.stringify({ "kimi-coding": entry }));
  const env = { HOME: machine, PI_CODING_AGENT_DIR: machine, KIMI_CODE_BASE_URL: base, KIMI_CODE_OAUTH_HOST: oauth };
  const loaded = loadAddon();
  if (loaded.addon === undefined) throw new Error("no addon");
  const services = new KimiServices(loaded.addon, host("0.87.1"));

  const bare = bareClient(tokens.access);
  await rounds(20, () => bare({ text_query: "kimi" }));
  await rounds(20, () => services.search("kimi", { env }));
  const floor = await rounds(ROUNDS, () => bare({ text_query: "kimi" }));
  const ours = await rounds(ROUNDS, () => services.search("kimi", { env }));

  const limit = { bytes: 50 * 1024, lines: 2000, directory: machine };
  const huge: Record<string, number> = {};
  const calls: [string, (options: ServiceOptions) => Promise<unknown>][] = [
    ["search", (options) => services.search("kimi [[huge]]", options)],
    ["fetch", (options) => services.fetch("https://example.com/[[huge]]", options)],
    ["datasource", (options) => services.datasource({ source: "who", api: "sim_huge" }, options)],
  ];
  for (const [name, call] of calls) {
    huge[`${name}, as a tool`] = await busy(() => call({ env, limit }));
    huge[`${name}, whole`] = await busy(() => call({ env }));
  }
  const report: ToolsReport = { bare: floor, search: ours, huge };
  console.log(JSON.stringify(report));
} finally {
  child.kill();
  rmSync(machine, { recursive: true, force: true });
}

function bareClient(token: string): (body: object) => Promise<void> {
  const agent = new Agent({ keepAlive: true });
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  return (body) =>
    new Promise((resolve, reject) => {
      const sending = request(`${base}/v1/search`, { method: "POST", agent, headers }, (response) => {
        response.resume().on("end", resolve).on("error", reject);
      });
      sending.on("error", reject).end(JSON.stringify(body));
    });
}

async function rounds(count: number, run: () => Promise<unknown>): Promise<Times> {
  const times: number[] = [];
  for (let index = 0; index < count; index += 1) {
    const start = performance.now();
    await run();
    times.push(performance.now() - start);
  }
  times.sort((a, b) => a - b);
  return { median: round(times[count >> 1] ?? 0), p95: round(times[Math.floor(count * 0.95)] ?? 0) };
}

/** Median time per call in which the event loop was busy. */
async function busy(run: () => Promise<unknown>): Promise<number> {
  const times: number[] = [];
  for (let index = 0; index < HUGE_ROUNDS; index += 1) {
    const before = performance.eventLoopUtilization();
    await run();
    times.push(performance.eventLoopUtilization(before).active);
  }
  times.sort((a, b) => a - b);
  return round(times[HUGE_ROUNDS >> 1] ?? 0);
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
