/** The model list: when a turn asks for it, what it says, and how our own table compares with Pi's newest. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { host } from "../../extension/environment.ts";
import type { Json } from "../simulator/json.ts";
import type { RequestRecord, Simulator } from "../simulator/index.ts";
import { Home } from "../support/pi.ts";
import { withSimulator } from "../support/simulator.ts";
import { fetchedTool } from "../support/tools.ts";
import { addon, type Outcome, runOne } from "../support/turn.ts";

const native = addon();
const NEW = { id: "k9-new", display_name: "Kimi K9", context_length: 1_048_576, supports_thinking_type: "both" };

let simulator: Simulator;
let home: Home;
withSimulator((given) => (simulator = given));
beforeEach(() => (home = new Home()));
afterEach(() => home.remove());

const asked = (endpoint: string): RequestRecord[] =>
  simulator.requests.filter((record) => record.endpoint === endpoint);

/** A turn without Pi, in the home of the test. */
function turn(apiKey = simulator.apiKey): Promise<Outcome> {
  simulator.enqueue({ steps: [{ text: "ok" }] });
  const { baseUrl } = simulator;
  return runOne(native, { baseUrl, apiKey, id: "k3", env: { HOME: home.home, KIMI_CODE_MODEL_LIST: "" } });
}

/** Milliseconds between the first request for the list and the first of a turn. */
function waited(): number {
  const [list] = asked("models");
  const [chat] = asked("chat");
  return (chat?.time ?? Number.NaN) - (list?.time ?? Number.NaN);
}

interface StoredLists {
  accounts: Record<string, Record<string, unknown>>;
}

const listFile = (): string => join(home.home, ".pi", "pi-provider-kimi-code", "catalog.json");

function storedLists(): StoredLists {
  return JSON.parse(readFileSync(listFile(), "utf8")) as StoredLists;
}

/** Waits until the background has stored what it asks for beside the list. */
async function settled(): Promise<void> {
  const isStored = (): boolean =>
    Object.values(storedLists().accounts).some((account) => typeof account["hintsCheckedAt"] === "number");
  for (let left = 500; left > 0 && !isStored(); left -= 1) await sleep(20);
  assert.ok(isStored());
}

/** Makes everything that is stored of the list older. */
function age(milliseconds: number): void {
  const stored = storedLists();
  for (const account of Object.values(stored.accounts)) {
    for (const name of ["fetchedAt", "checkedAt"]) {
      const time = account[name];
      if (typeof time === "number") account[name] = time - milliseconds;
    }
  }
  writeFileSync(listFile(), JSON.stringify(stored));
}

describe("model list: what a turn waits for", () => {
  test("model list: the service does not answer → the turn goes on after 1.5 s", async () => {
    // An account of its own, because the process does not wait for this one again.
    simulator.credentials.add("sk-slow");
    simulator.intercept("models", { status: 200, delayMs: 20_000, body: {} });
    const { message } = await turn("sk-slow");
    assert.equal(message.errorMessage, undefined);
    assert.ok(waited() >= 1300 && waited() < 4000, String(waited()));
    assert.ok((await turn("sk-slow")).took < 1300);
    assert.equal(asked("models").length, 1);
  });

  test("model list: a failed request → not repeated within the hour", async () => {
    simulator.intercept("models", { status: 500, body: {} });
    await turn();
    await turn();
    assert.equal(asked("models").length, 1);
    age(2 * 3600_000);
    await turn();
    assert.equal(asked("models").length, 2);
  });

  test("model list: a stored list of the day → no request", async () => {
    await turn();
    await settled();
    age(23 * 3600_000);
    await turn();
    assert.equal(asked("models").length, 1);
  });

  test("model list: an older one → renewed without waiting", async () => {
    await turn();
    await settled();
    age(25 * 3600_000);
    simulator.requests.splice(0);
    simulator.intercept("models", { status: 200, delayMs: 3000, body: {} });
    const { took, message } = await turn();
    assert.equal(message.errorMessage, undefined);
    assert.ok(took < 2500, String(took));
    await simulator.waitForRequest((record) => record.endpoint === "models");
  });

  test("model list: a home that cannot be written → one request for the process", async () => {
    writeFileSync(join(home.home, ".pi"), "in the way");
    await turn();
    await turn();
    assert.equal(asked("models").length, 1);
  });

  test("KIMI_CODE_MODEL_LIST=off → no request", async () => {
    simulator.enqueue({ steps: [{ text: "ok" }] });
    await runOne(native, { baseUrl: simulator.baseUrl, apiKey: simulator.apiKey, env: { HOME: home.home } });
    assert.equal(asked("models").length, 0);
  });

  test("model list: no trace of a lease is left", async () => {
    await turn();
    const files = readdirSync(join(home.home, ".pi", "pi-provider-kimi-code"));
    assert.deepEqual(
      files.filter((file) => file.endsWith(".asking")),
      [],
    );
  });
});

describe("model list: what it says", () => {
  interface Entry {
    id: string;
    cost: { input: number; output: number; cacheRead: number };
    contextWindow: number;
    maxTokens: number;
    reasoning: boolean;
    input: string[];
    thinkingLevelMap: Record<string, string | null>;
    cacheDuration?: number;
    minTokensToHint?: number;
  }

  async function listed(models: Json[]): Promise<Entry[]> {
    simulator.catalog.models = models;
    const environment = {
      HOME: home.home,
      KIMI_CODE_BASE_URL: simulator.baseUrl,
      KIMI_API_KEY: simulator.apiKey,
    };
    const request = JSON.stringify({ environment, host: host(undefined) });
    assert.equal(await native.refreshModels(request), "{}");
    return (JSON.parse(native.models(request)) as { models: Entry[] }).models;
  }

  test("cache lifetime: the service's estimate → per model, asked once per hour", async () => {
    simulator.catalog.configs["estimated_cache_duration"] = {
      version: 1,
      config: { "k9-new": { cache_duration: 300, min_tokens_to_hint: 20_000 }, other: { cache_duration: -1 } },
    };
    const [entry, plain] = await listed([NEW, { id: "other" }]);
    assert.deepEqual([entry?.cacheDuration, entry?.minTokensToHint], [300, 20_000]);
    assert.deepEqual([plain?.cacheDuration, plain?.minTokensToHint], [undefined, undefined]);
    await listed([NEW]);
    assert.equal(asked("client_configs").length, 1);
  });

  test("cache lifetime: the service does not answer → the list is there all the same", async () => {
    simulator.intercept("client_configs", { status: 200, delayMs: 20_000, body: {} });
    const start = performance.now();
    assert.equal((await listed([NEW])).length, 1);
    assert.ok(performance.now() - start < 4000);
  });

  test("prices: an unknown model → those of its generation and speed, else none", async () => {
    const ids = ["k3.1-pro-2027", "k3.1-turbo-highspeed", "k3-mini", "k3-highspeed", "k9-new"];
    const models = await listed(ids.map((id) => ({ id })));
    assert.deepEqual(
      models.map(({ cost }) => [cost.input, cost.output]),
      [
        [2, 10],
        [4, 20],
        [3, 15],
        [0, 0],
        [0, 0],
      ],
    );
  });

  test("built-in list: Pi's newest table → every model of it, with its prices", async () => {
    const path = fetchedTool(
      "@earendil-works/pi-ai@1.6.0",
      "@earendil-works/pi-ai/dist/providers/kimi-coding.models.js",
    );
    const { KIMI_CODING_MODELS } = (await import(pathToFileURL(path).href)) as {
      KIMI_CODING_MODELS: Record<string, Entry>;
    };
    const ours = new Map((JSON.parse(native.fallbackModels()) as Entry[]).map((entry) => [entry.id, entry]));
    const theirs = Object.values(KIMI_CODING_MODELS);
    assert.ok(theirs.length >= 4);
    for (const { id, cost, contextWindow, maxTokens, reasoning, input, thinkingLevelMap } of theirs) {
      const entry = ours.get(id);
      assert.ok(entry, `${id} is missing in src/models/fallback.rs`);
      const prices = ({ input: prompt, output, cacheRead }: Entry["cost"]): number[] => [prompt, output, cacheRead];
      assert.deepEqual(prices(entry.cost), prices(cost), `prices of ${id}`);
      assert.deepEqual([entry.reasoning, entry.input], [reasoning, input], id);
      // A window that only some plans have, and an output as long as that, are trusted from the service's list alone.
      assert.ok(entry.contextWindow <= contextWindow && entry.maxTokens <= maxTokens, `window and output of ${id}`);
      for (const [level, effort] of Object.entries(thinkingLevelMap)) {
        if (effort !== null) assert.equal(entry.thinkingLevelMap[level], effort, `${id}, ${level}`);
      }
    }
  });
});
