/** Types: extension/ against the typings of another Pi than the one in package.json, which `npm run typecheck` covers. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { ROOT } from "../support/pi.ts";
import { NEWEST, piInstallation } from "../support/pi-versions.ts";

test(`typings: extension/ against Pi ${NEWEST} → no errors`, () => {
  // The copy is inside the installation, so that imports of Pi's packages resolve to those of this version.
  const installation = piInstallation(NEWEST);
  const copy = join(installation, "typings");
  rmSync(copy, { recursive: true, force: true });
  for (const entry of ["index.ts", "extension", "package.json"]) {
    cpSync(join(ROOT, entry), join(copy, entry), { recursive: true });
  }
  const config = {
    extends: join(ROOT, "tsconfig.json"),
    compilerOptions: { typeRoots: [join(ROOT, "node_modules", "@types")], listFiles: true },
    include: ["index.ts", "extension"],
  };
  writeFileSync(join(copy, "tsconfig.json"), JSON.stringify(config));
  const tsc = join(ROOT, "node_modules", "typescript", "bin", "tsc");
  const { stdout, status } = spawnSync(process.execPath, [tsc, "-p", copy], { encoding: "utf8" });
  const lines = stdout.split("\n");
  assert.deepEqual(
    lines.filter((line) => line.includes("error TS")),
    [],
  );
  assert.equal(status, 0);
  const declarations = lines.filter((line) => line.includes("/@earendil-works/pi-"));
  assert.ok(declarations.length > 0 && declarations.every((line) => line.startsWith(installation)));
});
