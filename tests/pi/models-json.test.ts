/** models.json: every kind of entry for `kimi-coding`, with an API key and with a login. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { RequestRecord, Simulator } from "../simulator/index.ts";
import { type Machine, withMachine } from "../support/account.ts";
import { bodyOf, ROOT, runPi } from "../support/pi.ts";
import { piLevel } from "../support/pi-versions.ts";

let simulator: Simulator;
let machine: Machine;
withMachine((...given) => {
  [simulator, machine] = given;
  simulator.setDefault({ steps: [{ text: "Hello." }] });
});

const MODELS = ["k3", "k3-256k", "k3.1-pro", "k3.1-pro-highspeed", "kimi-for-coding", "kimi-for-coding-highspeed"];

/** Where requests fail at once: nothing listens on the port of discard on this machine. */
const NOWHERE = "http://127.0.0.1:9";

type Credential = "key" | "login";

/** Variables that name no address of the service; a request to the default one fails at the proxy. */
function env(credential: Credential): Record<string, string | undefined> {
  return {
    HTTPS_PROXY: NOWHERE,
    https_proxy: NOWHERE,
    KIMI_LOOP_MAX_ATTEMPTS_PER_STEP: "1",
    ...(credential === "key" ? { KIMI_API_KEY: simulator.apiKey } : {}),
  };
}

/** Writes models.json and the credential. The login belongs to another address than the simulator's. */
function prepare(credential: Credential, entry: object): void {
  writeFileSync(join(machine.agent, "models.json"), JSON.stringify({ providers: { "kimi-coding": entry } }));
  if (credential === "key") return;
  machine.piLogin(simulator.oauth.login(), 800, { baseUrl: `${NOWHERE}/coding`, oauthHost: NOWHERE });
}

interface Listed {
  id: string;
  api: string;
  contextWindow: number;
}

/** Runs Pi and returns our models as its registry has them, those of type `chat`, and what a prompt printed. */
async function ask(
  credential: Credential,
  { model = "k3", more = {} }: { model?: string; more?: Record<string, string> } = {},
): Promise<{
  models: Listed[];
  typed: string[] | null;
  stdout: string;
  stderr: string;
  chat: RequestRecord | undefined;
}> {
  const report = join(machine.path, "registry.json");
  const spy = join(machine.path, "spy.ts");
  writeFileSync(
    spy,
    `import { readFileSync, writeFileSync } from "node:fs";
     export default (pi) => pi.on("agent_end", (_event, { modelRegistry }) => {
       const models = modelRegistry.getAll().filter(({ provider }) => provider === "kimi-coding");
       const typed = modelRegistry.getModelsOfType?.("chat", "kimi-coding")?.map(({ id }) => id) ?? null;
       writeFileSync(${JSON.stringify(report)}, JSON.stringify({ models, typed }));
     });`,
  );
  const { stdout, stderr } = await runPi(["-p", "--no-session", "--model", `kimi-coding/${model}`, "hi"], {
    home: machine,
    env: { ...env(credential), ...more },
    extensions: [ROOT, spy],
  });
  const { models, typed } = JSON.parse(readFileSync(report, "utf8")) as { models: Listed[]; typed: string[] | null };
  return { models, typed, stdout, stderr, chat: simulator.requests.findLast(({ endpoint }) => endpoint === "chat") };
}

function ids(models: { id: string }[]): string[] {
  return models.map(({ id }) => id).sort();
}

for (const credential of ["key", "login"] as const) {
  describe(`models.json with a ${credential}`, () => {
    const address = (): object => ({ baseUrl: simulator.baseUrl });

    test("headers: an entry with headers only → all models stay, and requests carry the header", async () => {
      // The address comes from the variable, because headers.json names none.
      prepare(credential, { headers: { "X-Test": "yes" } });
      const { models, typed, stdout, chat } = await ask(credential, {
        more: { KIMI_CODE_BASE_URL: simulator.baseUrl },
      });
      assert.deepEqual(ids(models), MODELS);
      assert.ok(models.every(({ api }) => api === "kimi-code-native"));
      if (piLevel() >= 1000) assert.deepEqual([...(typed ?? [])].sort(), MODELS);
      assert.equal(stdout.trim(), "Hello.");
      assert.equal(chat?.headers["x-test"], "yes");
    });

    test("baseUrl: an address → requests go there", async () => {
      prepare(credential, address());
      const { models, stdout, stderr, chat } = await ask(credential);
      assert.deepEqual(ids(models), MODELS);
      assert.deepEqual([stdout.trim(), stderr], ["Hello.", ""]);
      assert.equal(chat?.path, "/coding/v1/chat/completions");
    });

    test("baseUrl: an environment variable as well → the variable counts", async () => {
      prepare(credential, { baseUrl: `${NOWHERE}/coding` });
      const { stdout } = await ask(credential, { more: { KIMI_CODE_BASE_URL: simulator.baseUrl } });
      assert.equal(stdout.trim(), "Hello.");
    });

    test("modelOverrides: a smaller window for one model → that window, the other models unchanged", async () => {
      prepare(credential, { ...address(), modelOverrides: { k3: { contextWindow: 200_000 } } });
      const { models, stdout } = await ask(credential);
      assert.deepEqual(ids(models), MODELS);
      assert.equal(models.find(({ id }) => id === "k3")?.contextWindow, 200_000);
      assert.equal(stdout.trim(), "Hello.");
    });

    test("models: a model without api → ours, at the address of the entry", async () => {
      prepare(credential, { ...address(), models: [{ id: "k9-preview", name: "K9" }] });
      const { models, stdout, chat } = await ask(credential, { model: "k9-preview" });
      assert.deepEqual(ids(models), [...MODELS, "k9-preview"].sort());
      assert.equal(models.find(({ id }) => id === "k9-preview")?.api, "kimi-code-native");
      assert.equal(stdout.trim(), "Hello.");
      assert.equal(bodyOf<{ model: string }>(chat).model, "k9-preview");
    });

    test("a wrong type: headers as a number → Pi reports it, and our models stay", async () => {
      prepare(credential, { headers: 7 });
      const { models, stdout } = await ask(credential, { more: { KIMI_CODE_BASE_URL: simulator.baseUrl } });
      assert.deepEqual(ids(models), MODELS);
      assert.equal(stdout.trim(), "Hello.");
    });
  });
}
