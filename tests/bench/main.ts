/**
 * `npm run bench [-- --quick] [--full] [--only text,paced,setup,media] [--runs 3]`
 *
 * Compares our provider with its peers in one run: the same simulator in a separate process, every measurement in a fresh
 * process, medians. Prints tables and every goal with its result; writes both to `.cache/bench.md` and `.cache/bench.json`.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { startService } from "../support/service.ts";
import { aiSdk } from "./ai-sdk.ts";
import { Bench } from "./bench.ts";
import { governor } from "./governor.ts";
import { growth } from "./growth.ts";
import { install } from "./install.ts";
import { host } from "./host.ts";
import { login } from "./login.ts";
import { media } from "./media.ts";
import { preconnect } from "./preconnect.ts";
import { Report } from "./report.ts";
import { setup } from "./setup.ts";
import { size } from "./size.ts";
import { latency, memory } from "./single.ts";
import { startup } from "./startup.ts";
import { streams } from "./streams.ts";
import { tools } from "./tools.ts";
import { tui } from "./tui.ts";
import { wakeups } from "./wakeups.ts";

const ROOT = join(import.meta.dirname, "..", "..");
const { values: flags } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    full: { type: "boolean", default: false },
    only: { type: "string", default: "" },
    runs: { type: "string" },
  },
});
const { quick, full } = flags;
const runs = Number(flags.runs ?? (quick ? 1 : 3));
const only = flags.only.split(",").filter(Boolean);
const wanted = (name: string): boolean => only.length === 0 || only.includes(name);

/** Everything except the streams, by the name that `--only` takes. */
const SECTIONS: Record<string, (bench: Bench) => Promise<void>> = {
  setup,
  growth,
  media,
  tools,
  latency,
  memory,
  wakeups,
  preconnect,
  governor,
  login,
  tui,
  host,
  size,
  startup,
  install,
};

const report = new Report();
const service = await startService();
try {
  const bench = new Bench(service, report, { runs, quick, full });
  report.say(`Node ${process.versions.node}, ${cpus().length} × ${cpus()[0]?.model ?? "?"}, median of ${runs}`, "");
  const rows: object[] = await streams(bench, wanted);
  if (wanted("ai-sdk")) rows.push(...(await aiSdk(bench)));
  for (const [name, section] of Object.entries(SECTIONS)) if (wanted(name)) await section(bench);
  report.summary();
  mkdirSync(join(ROOT, ".cache"), { recursive: true });
  const found = { runs, quick, rows, bars: report.bars, text: report.lines };
  writeFileSync(join(ROOT, ".cache", "bench.json"), JSON.stringify(found, undefined, 2));
  writeFileSync(join(ROOT, ".cache", "bench.md"), `${report.lines.join("\n")}\n`);
} finally {
  service.stop();
}
