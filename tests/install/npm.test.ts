/** From a registry into real Pi: install, a turn, update, remove, and missing parts. The registry is our own, on the loopback. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { describe, test } from "node:test";
import { packAllInOne, packPlatform, packRoot } from "../../npm/pack.mjs";
import type { Simulator } from "../simulator/index.ts";
import { type Installation, MODEL, NAME, withInstallation } from "../support/installation.ts";
import { ADDON, manifest, PLATFORM, PLATFORM_PACKAGE, run } from "../support/packages.ts";
import { messages, runPi, textOf } from "../support/pi.ts";

let simulator: Simulator;
let machine: Installation;

withInstallation((...given) => ([simulator, machine] = given));

describe("pi install npm:", () => {
  test("fresh machine → install and a turn, only our packages are requested", async () => {
    machine.publishCurrent();
    await machine.pi("install", `npm:${NAME}`);
    assert.deepEqual(machine.packages(), [`npm:${NAME}`]);
    const { requests } = machine.registry;
    assert.deepEqual(
      requests.filter((path) => !path.includes(NAME)),
      [],
    );
    const tarballs = requests.filter((path) => path.endsWith(".tgz")).map((path) => path.split("/-/")[0]);
    assert.deepEqual(tarballs.sort(), [NAME, PLATFORM_PACKAGE].sort(), "no other platform's binary was fetched");
    await machine.answers();
  });

  test("release without our platform → a warning; its update → works; removal → nothing left", async () => {
    machine.registry.publish(packRoot(machine.tmp, { version: "0.0.9" }));
    await machine.pi("install", `npm:${NAME}`);
    const warning = await machine.warnings();
    assert.match(warning, new RegExp(`${PLATFORM_PACKAGE}.*could not be loaded.*pi install npm:${NAME}`));
    assert.match(warning, /built-in Kimi provider stays in place/);

    machine.publishCurrent();
    await machine.pi("update", "--extensions");
    await machine.answers();

    await machine.pi("remove", `npm:${NAME}`);
    assert.deepEqual(machine.packages(), []);
    const modules = readdirSync(join(machine.agent, "npm", "node_modules"), { recursive: true, withFileTypes: true });
    const left = modules.filter((entry) => entry.isFile() && entry.parentPath.includes("pi-provider"));
    assert.deepEqual(left, []);
    assert.equal(await machine.warnings(), "[]");
  });

  test("update while Pi runs → the old version goes on, in new sessions too, /reload loads the new one", async () => {
    machine.publishCurrent();
    await machine.pi("install", `npm:${NAME}`);
    const reload = join(machine.path, "reload.ts");
    writeFileSync(
      reload,
      `export default (pi) => { pi.registerCommand("again", { handler: (_args, ctx) => ctx.reload() }); };`,
    );
    const pi = machine.rpc("-e", reload, ...MODEL);
    const turn = async (word: string): Promise<string> => {
      simulator.enqueue({ steps: [{ text: word }] });
      assert.equal(textOf(messages(await pi.prompt("hi"))[0]), word);
      return machine.agentName();
    };
    try {
      const { version } = manifest();
      const next = nextVersion(version);
      assert.ok((await turn("before")).includes(`${NAME}/${version}`));
      machine.registry.publish(packPlatform(machine.tmp, PLATFORM, { version: next, addon: addonOfVersion(next) }));
      machine.registry.publish(packRoot(machine.tmp, { version: next }));
      await machine.pi("update", "--extensions");
      assert.ok((await turn("meanwhile")).includes(`${NAME}/${version}`));
      assert.ok((await pi.command({ type: "new_session" }))["success"]);
      assert.ok((await turn("another session")).includes(`${NAME}/${version}`));
      await pi.command({ type: "prompt", message: "/again" });
      assert.ok((await turn("after")).includes(`${NAME}/${next}`));
    } finally {
      await pi.close();
    }
  });

  test("a file of the package is missing → a warning, Pi's built-in provider stays", async () => {
    machine.publishCurrent();
    await machine.pi("install", `npm:${NAME}`);
    const dist = join(machine.agent, "npm", "node_modules", NAME, "dist");
    for (const file of readdirSync(dist).filter((name) => /^pi-.*\.js$/.test(name))) rmSync(join(dist, file));
    const warning = /Kimi Code could not be loaded: .*Repair: .*install the package again/;
    assert.match(await machine.warnings(), warning);
    // Without a credential, or the built-in provider would send the prompt to the real service.
    const env = { ...machine.variables(), KIMI_API_KEY: undefined };
    const { stderr } = await runPi(["-p", ...MODEL, "hi"], { home: machine, env, extensions: "installed" });
    assert.match(stderr, warning);
    assert.equal((await machine.run("--list-models", "kimi")).code, 0);
  });

  test("no network → the error says so, and Pi works as before", async () => {
    await machine.registry.close();
    const failed = await machine.run("install", `npm:${NAME}`);
    assert.notEqual(failed.code, 0);
    assert.match(failed.stdout + failed.stderr, /ECONNREFUSED|network/i);
    assert.equal(await machine.warnings(), "[]");
  });
});

/** A later version of the same length, for `addonOfVersion`. */
function nextVersion(version: string): string {
  return version.replace(/^\d/, (digit) => String((Number(digit) + 1) % 10));
}

/** Our addon with another version: the version is replaced in its bytes. */
function addonOfVersion(version: string): string {
  const file = join(machine.tmp, `${version}.node`);
  const text = readFileSync(ADDON, "latin1").replaceAll(manifest().version, version);
  writeFileSync(file, text, "latin1");
  return file;
}

test("all-in-one archive → unpacks to its fixed folder, needs no registry", async () => {
  const archive = packAllInOne(machine.tmp);
  assert.equal(basename(archive), "pi-provider-kimi-code.tar.gz");
  run("tar", ["-xzf", archive, "-C", machine.path], machine.path);
  const folder = join(machine.path, "pi-provider-kimi-code");
  assert.ok(existsSync(join(folder, "npm", PLATFORM, "sbom.cdx.json")));
  await machine.pi("install", folder);
  await machine.answers();
  assert.deepEqual(machine.registry.requests, []);
});
