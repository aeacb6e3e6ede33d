/**
 * Installs packed packages as users do, and runs them: `node tests/install/packed.ts <folder>`.
 *
 * The folder holds the tarballs of `node npm/pack.mjs`. They are published to a registry on the loopback; npm installs them into a
 * program, whose addon runs the client tests; Pi installs them and answers a prompt. The release workflow does this on each platform.
 */
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { startSimulator } from "../simulator/index.ts";
import { Installation, NAME } from "../support/installation.ts";
import { ADDON, PLATFORM_PACKAGE, runAside } from "../support/packages.ts";
import { ROOT } from "../support/pi.ts";

const folder = resolve(process.argv[2] ?? "packages");
const simulator = await startSimulator();
const machine = new Installation(simulator);
try {
  await machine.registry.listen();
  for (const file of readdirSync(folder).filter((name) => name.endsWith(".tgz")))
    machine.registry.publish(join(folder, file));
  machine.registry.listOtherPlatforms();

  const program = mkdtempSync(join(machine.path, "program-"));
  const env = machine.env(machine.variables());
  writeFileSync(join(program, "package.json"), '{"private":true,"type":"module"}');
  writeFileSync(join(program, "load.js"), `import { Kimi } from "${NAME}"; new Kimi(); console.log("loaded");`);
  await runAside("npm", ["install", "--no-audit", "--no-fund", NAME], program, env);
  console.log(`npm install: ${(await runAside("node", ["load.js"], program, env)).trim()}`);

  mkdirSync(dirname(ADDON), { recursive: true });
  copyFileSync(join(program, "node_modules", PLATFORM_PACKAGE, "kimi-code.node"), ADDON);
  console.log(await runAside("node", ["--test", "tests/client/client.test.ts"], ROOT, process.env));

  await machine.pi("install", `npm:${NAME}`);
  await machine.answers();
  console.log("pi install: installed, and answered a prompt");
} finally {
  await machine.close();
  await simulator.close();
}
