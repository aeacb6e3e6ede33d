/** A tarball instead of a registry entry: `pi install npm:<name>@file:<path>`. Runs in every version of Pi (tests/pi/matrix.ts). */
import assert from "node:assert/strict";
import { test } from "node:test";
import { packRoot } from "../../npm/pack.mjs";
import { type Installation, NAME, withInstallation } from "../support/installation.ts";
import { platformTarball } from "../support/packages.ts";

let machine: Installation;
withInstallation((_simulator, given) => (machine = given));

test("tarball: install, a turn, remove → ours, then the built-in provider", async () => {
  machine.registry.publish(platformTarball());
  machine.registry.listOtherPlatforms();
  const tarball = packRoot(machine.tmp);
  await machine.pi("install", `npm:${NAME}@file:${tarball}`);
  assert.match((await machine.pi("--list-models", "kimi")).stdout, /k3\s+262/);
  await machine.answers();
  assert.equal(await machine.warnings(), "[]");
  assert.ok(!machine.registry.requests.includes(NAME), "the registry is not asked for the package itself");
  await machine.pi("remove", `npm:${NAME}`);
  const { stdout } = await machine.pi("--list-models", "kimi");
  // Ours caps the window of k3 as long as no list is stored.
  assert.doesNotMatch(stdout, /k3\s+262/);
});
