/** pnpm and Bun as Pi's package manager, and Pi compiled by Bun into one file. Both are fetched by npm the first time. */
import assert from "node:assert/strict";
import { cpSync, existsSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { Simulator } from "../simulator/index.ts";
import { type Installation, MODEL, NAME, withInstallation } from "../support/installation.ts";
import { run, runAside } from "../support/packages.ts";
import { ROOT } from "../support/pi.ts";
import { fetchedTool } from "../support/tools.ts";

const BUN = `@oven/bun-${process.platform}-${process.arch}`;

let simulator: Simulator;
let machine: Installation;

withInstallation((...given) => ([simulator, machine] = given));

for (const [manager, source, path] of [
  ["pnpm", "pnpm@12", "pnpm/pnpm"],
  ["bun", `${BUN}@1`, `${BUN}/bin/bun`],
] as const) {
  test(`${manager} as Pi's package manager: install, a turn, update, remove`, async () => {
    machine.settings({ npmCommand: [fetchedTool(source, path)] });
    machine.publishCurrent();
    await machine.pi("install", `npm:${NAME}`);
    assert.ok(existsSync(join(machine.agent, "npm", "node_modules", NAME)));
    await machine.answers();
    await machine.pi("update", "--extensions");
    await machine.answers();
    await machine.pi("remove", `npm:${NAME}`);
    assert.deepEqual(machine.packages(), []);
  });
}

test("Pi compiled by Bun into one file: a turn", async () => {
  const binary = join(machine.path, "pi", "pi");
  const source = join(ROOT, "node_modules", "@earendil-works", "pi-coding-agent");
  const flags = ["--no-compile-autoload-bunfig", "--no-compile-autoload-dotenv"];
  run(
    fetchedTool(`${BUN}@1`, `${BUN}/bin/bun`),
    ["build", "--compile", ...flags, join(source, "dist/bun/cli.js"), "--outfile", binary],
    ROOT,
  );
  // The files beside Pi's compiled binary that are read without a screen.
  cpSync(join(source, "package.json"), join(machine.path, "pi", "package.json"));
  cpSync(join(source, "dist/modes/interactive/theme"), join(machine.path, "pi", "theme"), { recursive: true });
  machine.publishCurrent();
  await machine.pi("install", `npm:${NAME}`);
  simulator.enqueue({ steps: [{ text: "From Bun." }] });
  const args = ["-p", "--no-session", ...MODEL, "hi"];
  assert.equal((await runAside(binary, args, machine.cwd, machine.env(machine.variables()))).trim(), "From Bun.");
  assert.match(machine.agentName(), /bun\/.*pi-provider-kimi-code\//);
});
