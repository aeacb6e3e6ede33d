/** From a registry into real Pi: install, a turn, update, remove, and what is missing. The registry is ours and on the loopback. */
import assert from "node:assert/strict";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { packRoot } from "../npm/pack.mjs";
import { packageName } from "../npm/platforms.mjs";
import { type Simulator, startSimulator } from "./simulator/index.ts";
import { PLATFORM, platformTarball, run, runAside } from "./support/packages.ts";
import { Home, type PiResult, ROOT, RpcPi, runPi } from "./support/pi.ts";
import { Registry } from "./support/registry.ts";
import { fetchedTool } from "./support/tools.ts";

const NAME = "pi-provider-kimi-code";
const HEAVY = process.env["KIMI_TEST_INSTALL"] === "1";

let simulator: Simulator;
let registry: Registry;
let home: Home;

before(async () => {
  simulator = await startSimulator();
});
after(() => simulator.close());
beforeEach(async () => {
  simulator.reset();
  home = new Home();
  registry = new Registry();
  await registry.listen();
});
afterEach(async () => {
  await registry.close();
  home.remove();
});

function publishCurrent(): void {
  registry.publish(packRoot(home.tmp));
  registry.publish(platformTarball());
  registry.listOtherPlatforms();
}

function env(): Record<string, string | undefined> {
  return {
    // Pi installs nothing while it is told to be offline.
    PI_OFFLINE: undefined,
    npm_config_registry: registry.url,
    pnpm_config_registry: registry.url,
    BUN_CONFIG_REGISTRY: registry.url,
    npm_config_audit: "false",
    npm_config_update_notifier: "false",
    KIMI_CODE_BASE_URL: simulator.baseUrl,
    KIMI_API_KEY: simulator.apiKey,
  };
}

async function pi(...args: string[]): Promise<PiResult> {
  const result = await runPi(args, { home, env: env(), extensions: "installed", timeoutMs: 120_000 });
  assert.equal(result.code, 0, result.stdout + result.stderr);
  return result;
}

/** A turn of the installed extension. Our agent name tells it from Pi's own provider. */
async function answers(): Promise<void> {
  simulator.enqueue({ steps: [{ text: "Installed and well." }] });
  const result = await pi("-p", "--no-session", "--model", "kimi-coding/kimi-for-coding", "hi");
  assert.equal(result.stdout.trim(), "Installed and well.");
  assert.match(simulator.requests.at(-1)?.headers["user-agent"] ?? "", /pi-provider-kimi-code\//);
}

/** The warnings that Pi shows at the start of a session. */
async function warnings(): Promise<string> {
  const rpc = new RpcPi(["--no-session"], { home, env: env(), extensions: "installed" });
  try {
    await rpc.command({ type: "get_state" });
    return JSON.stringify(rpc.events.filter((event) => event["method"] === "notify"));
  } finally {
    await rpc.close();
  }
}

function settings(): { packages?: string[] } {
  return JSON.parse(readFileSync(join(home.agent, "settings.json"), "utf8")) as { packages?: string[] };
}

describe("npm", () => {
  test("a new machine: install, a turn, nothing asked of the registry but us", async () => {
    publishCurrent();
    await pi("install", `npm:${NAME}`);
    assert.deepEqual(settings().packages, [`npm:${NAME}`]);
    assert.deepEqual(
      registry.requests.filter((path) => !path.startsWith(NAME)),
      [],
    );
    const tarballs = registry.requests.filter((path) => path.endsWith(".tgz")).map((path) => path.split("/-/")[0]);
    assert.deepEqual(tarballs.sort(), [NAME, packageName(PLATFORM)], "no other platform's binary was fetched");
    await answers();
  });

  test("a release without our platform warns, the update that brings it works, removal leaves nothing", async () => {
    registry.publish(packRoot(home.tmp, { version: "0.0.9" }));
    await pi("install", `npm:${NAME}`);
    const warning = await warnings();
    assert.match(warning, new RegExp(`${packageName(PLATFORM)}.*could not be loaded.*pi install npm:${NAME}`));
    assert.match(warning, /built-in Kimi provider stays in place/);

    publishCurrent();
    await pi("update", "--extensions");
    await answers();

    await pi("remove", `npm:${NAME}`);
    assert.deepEqual(settings().packages ?? [], []);
    const left = readdirSync(join(home.agent, "npm", "node_modules")).filter((entry) =>
      entry.startsWith("pi-provider"),
    );
    assert.deepEqual(left, []);
    assert.equal(await warnings(), "[]");
  });
});

test("the all-in-one tarball needs no registry", async () => {
  const folder = join(home.path, "kimi");
  mkdirSync(folder);
  run("tar", ["-xzf", packRoot(home.tmp, { allInOne: true }), "-C", folder, "--strip-components=1"], home.path);
  await pi("install", folder);
  await answers();
  assert.deepEqual(registry.requests, []);
});

const BUN = `@oven/bun-${process.platform}-${process.arch}`;

describe("other package managers", { skip: HEAVY ? false : "KIMI_TEST_INSTALL=1 runs them" }, () => {
  for (const [manager, source, path] of [
    ["pnpm", "pnpm@12", "pnpm/pnpm"],
    ["bun", `${BUN}@1`, `${BUN}/bin/bun`],
  ] as const) {
    test(`${manager}: install, a turn, update, remove`, async () => {
      home.settings({ npmCommand: [fetchedTool(source, path)] });
      publishCurrent();
      await pi("install", `npm:${NAME}`);
      assert.ok(existsSync(join(home.agent, "npm", "node_modules", NAME)));
      await answers();
      await pi("update", "--extensions");
      await answers();
      await pi("remove", `npm:${NAME}`);
      assert.deepEqual(settings().packages ?? [], []);
    });
  }
});

test("the Pi that Bun compiled into one file", { skip: HEAVY ? false : "KIMI_TEST_INSTALL=1 runs it" }, async () => {
  const binary = join(home.path, "pi", "pi");
  const source = join(ROOT, "node_modules", "@earendil-works", "pi-coding-agent");
  const flags = ["--no-compile-autoload-bunfig", "--no-compile-autoload-dotenv"];
  run(
    fetchedTool(`${BUN}@1`, `${BUN}/bin/bun`),
    ["build", "--compile", ...flags, join(source, "dist/bun/cli.js"), "--outfile", binary],
    ROOT,
  );
  // What Pi's own build puts beside its binary, as far as it is read without a screen.
  cpSync(join(source, "package.json"), join(home.path, "pi", "package.json"));
  cpSync(join(source, "dist/modes/interactive/theme"), join(home.path, "pi", "theme"), { recursive: true });
  publishCurrent();
  await pi("install", `npm:${NAME}`);
  simulator.enqueue({ steps: [{ text: "From Bun." }] });
  const args = ["-p", "--no-session", "--model", "kimi-coding/kimi-for-coding", "hi"];
  assert.equal((await runAside(binary, args, home.cwd, home.env(env()))).trim(), "From Bun.");
  assert.match(simulator.requests.at(-1)?.headers["user-agent"] ?? "", /bun\/.*pi-provider-kimi-code\//);
});
