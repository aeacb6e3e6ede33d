/** The model list of real Pi without a screen, which never asks for it by itself. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { RequestRecord, Simulator } from "../simulator/index.ts";
import { bodyOf, type Home, type PiResult, runPi } from "../support/pi.ts";
import { withPi } from "../support/with-pi.ts";

interface ChatBody {
  model: string;
  max_completion_tokens: number;
  thinking?: { type: string };
}

const NEW = {
  id: "k9-new",
  display_name: "Kimi K9",
  context_length: 1_048_576,
  supports_thinking_type: "both",
  supports_image_in: true,
  think_efforts: { support: true, valid_efforts: ["low", "high"], default_effort: "high" },
};

let simulator: Simulator;
let home: Home;
withPi((...given) => ([simulator, home] = given));

const asked = (endpoint: string): RequestRecord[] =>
  simulator.requests.filter((record) => record.endpoint === endpoint);

async function print(model: string, ...args: string[]): Promise<PiResult> {
  const env = {
    KIMI_CODE_BASE_URL: simulator.baseUrl,
    KIMI_API_KEY: simulator.apiKey,
    KIMI_CODE_MODEL_LIST: undefined,
  };
  const result = await runPi(["-p", "--no-session", "--model", `kimi-coding/${model}`, ...args, "hi"], { home, env });
  assert.equal(result.code, 0, result.stderr);
  return result;
}

describe("model list: headless Pi on a fresh home", () => {
  test("model list: an unknown model with a switch → its window and off, in the first request", async () => {
    simulator.catalog.models = [NEW];
    simulator.enqueue({ steps: [{ text: "ok" }] });
    await print("k9-new", "--thinking", "off");
    const body = bodyOf<ChatBody>(asked("chat")[0]);
    assert.equal(body.model, "k9-new");
    assert.deepEqual(body.thinking, { type: "disabled" });
    assert.ok(body.max_completion_tokens > 900_000, String(body.max_completion_tokens));
    assert.equal(asked("models").length, 1);
  });

  test("model list: a known model with a switch → off reaches the service", async () => {
    simulator.catalog.models = [{ ...NEW, id: "kimi-for-coding" }];
    simulator.enqueue({ steps: [{ text: "ok" }] });
    await print("kimi-for-coding", "--thinking", "off");
    assert.deepEqual(bodyOf<ChatBody>(asked("chat")[0]).thinking, { type: "disabled" });
  });

  test("model list: a model with a dialect of its own → that dialect in the first request", async () => {
    simulator.catalog.models = [{ ...NEW, protocol: "anthropic" }];
    simulator.enqueue({ steps: [{ text: "ok" }] });
    await print("k9-new");
    assert.deepEqual([asked("messages").length, asked("chat").length], [1, 0]);
  });

  test("model list: several processes at once → one request", async () => {
    simulator.setDefault({ steps: [{ text: "ok" }] });
    await Promise.all(["k3", "k3", "kimi-for-coding"].map((model) => print(model)));
    assert.deepEqual([asked("models").length, asked("chat").length], [1, 3]);
  });

  test("model list: the service does not answer → the turn goes on after 1.5 s, once", async () => {
    simulator.setDefault({ steps: [{ text: "ok" }] });
    simulator.intercept("models", { status: 200, delayMs: 20_000, body: {} });
    await print("kimi-for-coding");
    const [list] = asked("models");
    const [chat] = asked("chat");
    const waited = (chat?.time ?? Number.NaN) - (list?.time ?? Number.NaN);
    assert.ok(waited >= 1300 && waited < 3000, String(waited));
    assert.equal(asked("models").length, 1);
  });

  test("model list: a model of another provider → not asked for", async () => {
    const env = {
      KIMI_CODE_BASE_URL: simulator.baseUrl,
      KIMI_API_KEY: simulator.apiKey,
      KIMI_CODE_MODEL_LIST: undefined,
    };
    await runPi(["-p", "--no-session", "--model", "openai/none", "hi"], { home, env });
    assert.deepEqual(simulator.requests, []);
  });

  test("--list-models: no stored list → the models of the account", async () => {
    simulator.catalog.models = [NEW];
    const env = {
      KIMI_CODE_BASE_URL: simulator.baseUrl,
      KIMI_API_KEY: simulator.apiKey,
      KIMI_CODE_MODEL_LIST: undefined,
    };
    const { stdout } = await runPi(["--list-models"], { home, env });
    assert.match(stdout, /k9-new/);
  });
});
