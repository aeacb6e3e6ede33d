/** Pi's own cache warmer with our models (docs/caching.md#keeping-it-alive). It exists since Pi 1.5.1. */
import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "node:test";
import type { Simulator } from "../simulator/index.ts";
import { type Home, ROOT, RpcPi, runPi } from "../support/pi.ts";
import { NEWEST, piCli } from "../support/pi-versions.ts";
import { withPi } from "../support/with-pi.ts";

let simulator: Simulator;
let home: Home;

withPi((...given) => ([simulator, home] = given));

/** Lets the warmer work for a prompt of any size; Pi's own gate counts dollars. */
const ALWAYS = `export default (pi) => pi.on("cache_warming_decision", () => ({ action: "warm" }));\n`;

interface Setup {
  keeper?: "pi" | "off";
  lifetime?: number;
  env?: Record<string, string>;
}

/** A Pi 1.5.2 that has seen the model list, and the ways to it. */
async function pi({ keeper = "pi", lifetime, env = {} }: Setup): Promise<RpcPi> {
  if (lifetime !== undefined) {
    simulator.catalog.configs["estimated_cache_duration"] = {
      version: 1,
      config: { "kimi-for-coding": { cache_duration: lifetime, min_tokens_to_hint: 1000 } },
    };
  }
  mkdirSync(join(home.home, ".pi"), { recursive: true });
  writeFileSync(join(home.home, ".pi", "pi-provider-kimi-code.json"), JSON.stringify({ cache: { keeper } }));
  const always = join(home.path, "always.mjs");
  writeFileSync(always, ALWAYS);
  const options = {
    home,
    cli: piCli(NEWEST),
    extensions: [ROOT, always],
    env: {
      KIMI_CODE_BASE_URL: simulator.baseUrl,
      KIMI_API_KEY: simulator.apiKey,
      KIMI_CODE_MODEL_LIST: undefined,
      ...env,
    },
  };
  // The list with the lifetime is stored by the first process.
  await runPi(["-p", "--no-session", "--model", "kimi-coding/kimi-for-coding", "first"], options);
  return new RpcPi(["--no-session", "--model", "kimi-coding/kimi-for-coding"], options);
}

const asked = (): Buffer[] =>
  simulator.requests.filter(({ endpoint }) => endpoint === "chat").map(({ rawBody }) => rawBody);

test("warmer of Pi: the model has a lifetime and the keeper is pi → the last request again, byte by byte but for its cap", async () => {
  const session = await pi({ lifetime: 11 });
  try {
    await session.prompt("keep this warm");
    const before = asked().length;
    while (asked().length === before) await sleep(50);
    const [request, warm] = asked()
      .slice(before - 1)
      .map(String);
    const cap = /"max_completion_tokens":(\d+)/;
    assert.equal(cap.exec(warm ?? "")?.[1], "1");
    assert.notEqual(cap.exec(request ?? "")?.[1], "1");
    assert.equal(warm?.replace(cap, ""), request?.replace(cap, ""));
  } finally {
    await session.close();
  }
});

for (const [name, setup] of Object.entries({
  "the keeper is off": { keeper: "off", lifetime: 11 },
  "no lifetime is known": {},
  "PI_CACHE_RETENTION=none": { lifetime: 11, env: { PI_CACHE_RETENTION: "none" } },
} satisfies Record<string, Setup>)) {
  test(`warmer of Pi: ${name} → no model has a lifetime`, async () => {
    const session = await pi(setup);
    try {
      const { data } = (await session.command({ type: "get_available_models" })) as unknown as {
        data: { models: { provider: string; promptCache?: object }[] };
      };
      const ours = data.models.filter(({ provider }) => provider === "kimi-coding");
      assert.ok(ours.length > 0);
      assert.deepEqual(
        ours.filter(({ promptCache }) => promptCache !== undefined),
        [],
      );
    } finally {
      await session.close();
    }
  });
}
