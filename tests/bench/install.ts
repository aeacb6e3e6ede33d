/** Measures an installation: size of the root package, time of `npm install`, and memory of an idle addon. */
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { packRoot } from "../../npm/pack.mjs";
import { ADDON, platformTarball, runAside } from "../support/packages.ts";
import { ROOT } from "../support/pi.ts";
import { Registry } from "../support/registry.ts";
import type { Bench } from "./bench.ts";
import { median } from "./report.ts";

const RUNS = 5;

/** Returns the seconds `npm install` takes with an empty cache and a registry on the loopback. */
async function installTime(registry: Registry): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), "kimi-install-"));
  try {
    writeFileSync(join(folder, "package.json"), '{"private":true}');
    const env = { ...process.env, npm_config_registry: registry.url, npm_config_cache: join(folder, "cache") };
    const args = ["install", "--no-audit", "--no-fund", "pi-provider-kimi-code"];
    const at = performance.now();
    const child = spawn("npm", args, { cwd: folder, env, stdio: "ignore", shell: process.platform === "win32" });
    const code = await new Promise((resolve) => child.on("close", resolve));
    if (code !== 0) throw new Error(`npm install ended with ${String(code)}`);
    return (performance.now() - at) / 1000;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Returns the MB a process grows by when it loads the addon and creates a client. */
async function idleMemory(): Promise<number> {
  const entry = pathToFileURL(join(ROOT, "dist", "index.js")).href;
  const script = `import { setTimeout as sleep } from "node:timers/promises";
    const { Kimi } = await import(${JSON.stringify(entry)});
    const rss = async () => { gc(); await sleep(200); gc(); return process.memoryUsage.rss() / 1e6; };
    const before = await rss();
    globalThis.kept = new Kimi({ apiKey: "sk-bench" });
    console.log(await rss() - before);`;
  return Number(await runAside("node", ["--expose-gc", "--input-type=module", "-e", script], ROOT, process.env));
}

/** Needs the release build. */
export async function install({ report }: Bench): Promise<void> {
  if (!existsSync(ADDON) || !existsSync(join(ROOT, "dist", "index.js"))) {
    report.say("- Installation: run `npm run build` first.");
    return;
  }
  const packed = mkdtempSync(join(tmpdir(), "kimi-packed-"));
  const registry = new Registry();
  const line = (what: string, value: number, unit: string, goal: number): void =>
    report.say(`- ${what}: ${report.bar(what, value, unit, goal)} ${unit}.`);
  try {
    const root = packRoot(packed);
    registry.publish(root);
    registry.publish(platformTarball());
    registry.listOtherPlatforms();
    await registry.listen();
    line("Root package", statSync(root).size / 1000, "KB", 150);
    const times: number[] = [];
    for (let run = 0; run < RUNS; run += 1) times.push(await installTime(registry));
    line("`npm install` from a registry on the loopback, nothing cached", median(times), "s", 5);
    const grown: number[] = [];
    for (let run = 0; run < RUNS; run += 1) grown.push(await idleMemory());
    line("Memory of an idle addon", median(grown), "MB", 8);
  } finally {
    await registry.close();
    rmSync(packed, { recursive: true, force: true });
  }
}
