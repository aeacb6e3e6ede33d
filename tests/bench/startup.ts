/** What it costs to have us: size of the addon, import time, and how much later Pi lists its models. Used by main.ts. */
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { platformName } from "../../extension/native.ts";
import { Home, PI_CLI, ROOT } from "../support/pi.ts";

const RUNS = 7;

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

/** Milliseconds that a fresh process needs to import our package and load its addon. */
function importTime(): number {
  const entry = pathToFileURL(join(ROOT, "dist", "index.js")).href;
  const script = `const at = performance.now(); const { Kimi } = await import(${JSON.stringify(entry)}); new Kimi();
    console.log(performance.now() - at);`;
  const measure = (): number => Number(execFileSync(process.execPath, ["--input-type=module", "-e", script]));
  measure(); // warms the disk cache
  return median(Array.from({ length: RUNS }, measure));
}

/** Milliseconds until `pi --list-models` has ended, with these extensions. */
function listTime(home: Home, extensions: string[]): number {
  const once = (): number => {
    const at = performance.now();
    spawnSync(process.execPath, [PI_CLI, "--list-models", "-ne", ...extensions.flatMap((path) => ["-e", path])], {
      cwd: home.cwd,
      env: home.env({ KIMI_API_KEY: "sk-bench" }),
      stdio: "ignore",
    });
    return performance.now() - at;
  };
  once(); // fills the cache of transformed TypeScript
  return median(Array.from({ length: RUNS }, once));
}

function against(what: string, value: number, unit: string, goal: number): string {
  return `${what}: ${value.toFixed(1)} ${unit} ${value <= goal ? "✓" : "✗"} ≤ ${goal}.`;
}

/** One line per measure. Needs the release build. */
export function startup(): string[] {
  const addon = join(ROOT, "npm", platformName(), "kimi-code.node");
  if (!existsSync(addon) || !existsSync(join(ROOT, "dist", "index.js")))
    return ["Start-up: run `npm run build` first."];
  const bytes = statSync(addon).size;
  const debug = bytes > 20e6; // only symbols and debug information make it that large
  const home = new Home();
  try {
    const bare = listTime(home, []);
    const ours = listTime(home, [ROOT]);
    return [
      against(`Addon${debug ? " (a debug build!)" : ", stripped"}`, bytes / 1e6, "MB", 6),
      against("Import of the package and its addon, warm", importTime(), "ms", 25),
      against(`\`pi --list-models\` with us (${ours.toFixed(0)} ms) against without`, ours - bare, "ms", 60),
    ];
  } finally {
    home.remove();
  }
}
