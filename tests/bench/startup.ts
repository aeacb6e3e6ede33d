/** Measures startup: import time, and how much later Pi lists its models. */
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { platformName } from "../../extension/native/platform.ts";
import { Home, PI_CLI, ROOT } from "../support/pi.ts";
import { Terminal } from "../support/terminal.ts";
import type { Bench } from "./bench.ts";
import { median } from "./report.ts";

const RUNS = 7;

/** Milliseconds that a fresh process needs to import an entry, and then to open the addon. */
function importTime(entry: string): { imported: number; opened: number } {
  const url = pathToFileURL(join(ROOT, "dist", entry)).href;
  const script = `const start = performance.now(); const { Kimi } = await import(${JSON.stringify(url)});
    const imported = performance.now() - start; new Kimi();
    console.log(JSON.stringify({ imported, opened: performance.now() - start - imported }));`;
  const measure = (): { imported: number; opened: number } =>
    JSON.parse(execFileSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8" })) as never;
  measure(); // warms the disk cache
  const runs = Array.from({ length: RUNS }, measure);
  return {
    imported: median(runs.map(({ imported }) => imported)),
    opened: median(runs.map(({ opened }) => opened)),
  };
}

/**
 * Milliseconds until `pi --list-models` has ended, for each list of extensions. They take turns, so that a busy machine slows all of
 * them. `forget` removes Pi's translations of TypeScript before each run, as on a new machine.
 */
function listTimes(home: Home, sets: string[][], forget: boolean): number[] {
  const once = (extensions: string[]): number => {
    if (forget) rmSync(join(home.tmp, "jiti"), { recursive: true, force: true });
    const at = performance.now();
    spawnSync(process.execPath, [PI_CLI, "--list-models", "-ne", ...extensions.flatMap((path) => ["-e", path])], {
      cwd: home.cwd,
      env: home.env({ KIMI_API_KEY: "sk-bench" }),
      stdio: "ignore",
    });
    return performance.now() - at;
  };
  sets.forEach(once); // fills Pi's cache of translations
  const rounds = Array.from({ length: RUNS }, () => sets.map(once));
  return sets.map((_, index) => median(rounds.map((times) => times[index] ?? 0)));
}

/** Milliseconds from Enter until `/kimi-settings` is shown in a terminal, with a service that does not answer. */
async function settingsTime(): Promise<number> {
  const home = new Home();
  const terminal = new Terminal(["--no-session", "--model", "kimi-coding/kimi-for-coding"], {
    home,
    // An address that accepts no connection: the screen must not wait for the service.
    env: { KIMI_API_KEY: "sk-bench", KIMI_CODE_BASE_URL: "http://127.0.0.1:9/coding" },
  });
  try {
    await terminal.waitFor(/kimi-for-coding/);
    const once = async (): Promise<number> => {
      terminal.type("/kimi-settings");
      await sleep(500);
      const at = performance.now();
      terminal.press("Enter");
      while (!terminal.screen().includes("Changes go to")) await sleep(1);
      const passed = performance.now() - at;
      terminal.press("Escape");
      await sleep(500);
      return passed;
    };
    const first = await once();
    const later: number[] = [];
    for (let run = 1; run < RUNS; run += 1) later.push(await once());
    return Math.max(first, median(later));
  } finally {
    terminal.close();
    home.remove();
  }
}

/** Needs the release build. */
export async function startup({ report }: Bench): Promise<void> {
  const addon = join(ROOT, "npm", platformName(), "kimi-code.node");
  if (!existsSync(addon) || !existsSync(join(ROOT, "dist", "index.js"))) {
    return report.say("- Start-up: run `npm run build` first.");
  }
  const home = new Home();
  const line = (what: string, value: number, unit: string, goal: number): void =>
    report.say(`- ${what}: ${report.bar(what, value, unit, goal)} ${unit}.`);
  try {
    const empty = join(home.path, "empty.ts");
    writeFileSync(empty, "export default (): void => undefined;");
    // The file that Pi loads from the published package.
    const sets = [[], [empty], [join(ROOT, "dist", "pi.ts")]];
    const [bare = 0, least = 0, ours = 0] = listTimes(home, sets, false);
    const [bareNew = 0, leastNew = 0, oursNew = 0] = listTimes(home, sets, true);
    for (const entry of ["index.js", "client.js"]) {
      const { imported, opened } = importTime(entry);
      line(`Import of \`${entry}\`, warm (opening the addon takes another ${opened.toFixed(1)} ms)`, imported, "ms", 6);
    }
    line(
      `\`pi --list-models\` with us (${ours.toFixed(0)} ms; an empty extension: ${(least - bare).toFixed(1)} ms), later than without`,
      ours - bare,
      "ms",
      15,
    );
    report.say(
      `- The same with nothing translated yet: ${(oursNew - bareNew).toFixed(0)} ms; an empty extension: ${(leastNew - bareNew).toFixed(0)} ms.`,
    );
    line("`/kimi-settings` on the screen, the first time", await settingsTime(), "ms", 100);
  } finally {
    home.remove();
  }
}
