/**
 * Whatever Pi hands over, the service accepts what leaves: each case goes through the addon to the simulator, which refuses what
 * the service refuses, in both dialects and with thinking on and off.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type AssistantMessage, createAssistantMessageEventStream, type Model } from "@earendil-works/pi-ai";
import { readFileSync } from "node:fs";
import { host } from "../extension/environment.ts";
import { type Addon, loadAddon } from "../extension/native.ts";
import { runTurn } from "../extension/stream.ts";
import { sessions } from "./fixtures/requests/sessions.ts";
import { type Simulator, startSimulator } from "./simulator/index.ts";
import { bodyOf } from "./support/pi.ts";

interface SchemaCase {
  issue: string;
  about: string;
  parameters: unknown;
}

const schemas = JSON.parse(
  readFileSync(new URL("fixtures/requests/tool-schemas.json", import.meta.url), "utf8"),
) as SchemaCase[];
const DIALECTS = ["openai", "anthropic"];

let simulator: Simulator;
let addon: Addon;

before(async () => {
  const loaded = loadAddon();
  assert.ok(loaded.addon, "problem" in loaded ? loaded.problem : "");
  addon = loaded.addon;
  simulator = await startSimulator();
});
after(() => simulator.close());

function model(): Model<string> {
  const entries = JSON.parse(addon.fallbackModels()) as Model<string>[];
  const entry = entries.find(({ id }) => id === "k3") as Model<string>;
  return { ...entry, api: "kimi-code-native", provider: "kimi-coding", baseUrl: simulator.baseUrl };
}

async function ask(context: unknown, protocol: string, level: string | undefined): Promise<AssistantMessage> {
  const stream = createAssistantMessageEventStream();
  simulator.enqueue({ steps: [{ text: "fine" }] });
  runTurn(addon, host("0.87.1"), stream, model(), context as never, {
    apiKey: simulator.apiKey,
    sessionId: "s",
    env: { KIMI_CODE_PROTOCOL: protocol },
    ...(level === undefined ? {} : { reasoning: level as never }),
  });
  return stream.result();
}

/** A refusal for a reason that repair cannot know. */
const refused = (message: string): { status: number; body: string } => ({
  status: 400,
  body: JSON.stringify({ error: { message, type: "invalid_request_error" } }),
});

async function accepted(context: unknown, protocol: string): Promise<void> {
  for (const level of ["high", undefined]) {
    simulator.reset();
    const message = await ask(context, protocol, level);
    const sent = JSON.stringify(bodyOf(simulator.requests.at(-1)), null, 1);
    assert.equal(message.errorMessage, undefined, sent.slice(0, 4000));
    assert.equal(simulator.requests.length, 1);
    const { tools } = context as { tools?: unknown[] };
    const sentTools = bodyOf<{ tools?: unknown[] }>(simulator.requests[0]).tools ?? [];
    assert.equal(sentTools.length, tools?.length ?? 0, "no tool is dropped");
  }
}

for (const protocol of DIALECTS) {
  describe(`tools, ${protocol}`, () => {
    for (const { issue, about, parameters } of schemas) {
      test(`${issue}: ${about}`, async () => {
        const tools = [{ name: "probe", description: "Probes.", parameters }];
        await accepted({ tools, messages: [{ role: "user", content: "hi", timestamp: 1 }] }, protocol);
      });
    }

    test("names that are not allowed are answered under Pi's own", async () => {
      const tools = ["3d.render", "搜索", "a b", "a.b"].map((name) => ({ name, description: "", parameters: {} }));
      await accepted({ tools, messages: [{ role: "user", content: "hi", timestamp: 1 }] }, protocol);
    });
  });

  describe(`sessions, ${protocol}`, () => {
    for (const { issue, about, messages } of sessions) {
      test(`${issue}: ${about}`, () => accepted({ messages }, protocol));
    }
  });
}

describe("a refusal that names its culprit", () => {
  // A session remembers what was refused, so every test has a picture of its own.
  let pictures = 0;
  const picture = (): object => {
    pictures += 1;
    const data = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0, 0, 0, pictures]).toString("base64");
    return { type: "image", mimeType: "image/png", data };
  };
  const conversation = (): object[] => [
    { role: "user", content: [{ type: "text", text: "look" }, picture()], timestamp: 1 },
    { role: "assistant", provider: "kimi-coding", stopReason: "stop", content: [{ type: "text", text: "odd answer" }] },
    { role: "user", content: "and now?", timestamp: 1 },
  ];

  for (const [protocol, endpoint] of [
    ["openai", "chat"],
    ["anthropic", "messages"],
  ] as const) {
    for (const [refusal, gone, kept] of [
      ["Invalid request: unsupported image format", "iVBORw0KGgo", "odd answer"],
      ["the message at position 1 with role 'assistant' must not be empty", "odd answer", "iVBORw0KGgo"],
    ] as const) {
      test(`${protocol}: ${refusal}`, async () => {
        simulator.reset();
        simulator.intercept(endpoint, refused(refusal));
        const message = await ask({ messages: conversation() }, protocol, "high");
        assert.equal(message.errorMessage, undefined);
        const [first, second] = simulator.requests.map((record) => JSON.stringify(bodyOf(record)));
        assert.equal(simulator.requests.length, 2);
        assert.ok(first?.includes(gone) && !second?.includes(gone) && second?.includes(kept), second);
      });
    }

    test(`${protocol}: a second refusal is the end`, async () => {
      simulator.reset();
      const refusal = refused("Invalid request: unsupported image format");
      simulator.intercept(endpoint, refusal, refusal, refusal);
      const message = await ask({ messages: conversation() }, protocol, "high");
      assert.match(message.errorMessage ?? "", /unsupported image format/);
      assert.equal(simulator.requests.length, 2);
    });
  }

  test("the payload hook sees both requests", async () => {
    simulator.reset();
    simulator.intercept("chat", refused("Invalid request: unsupported image format"));
    simulator.enqueue({ steps: [{ text: "fine" }] });
    const seen: string[] = [];
    const stream = createAssistantMessageEventStream();
    runTurn(addon, host("0.87.1"), stream, model(), { messages: conversation() } as never, {
      apiKey: simulator.apiKey,
      onPayload: (body) => {
        seen.push(JSON.stringify(body));
        return { ...(body as object), temperature: 1 };
      },
    });
    assert.equal((await stream.result()).errorMessage, undefined);
    assert.equal(seen.length, 2);
    assert.equal(bodyOf<{ temperature: number }>(simulator.requests.at(-1)).temperature, 1);
  });
});

describe("tools that cannot be written", () => {
  test("parameters that contain themselves are replaced, and the tool stays", async () => {
    const parameters: Record<string, unknown> = { type: "object" };
    parameters["properties"] = { self: parameters };
    simulator.reset();
    const tools = [{ name: "loop", description: "d", parameters }];
    const message = await ask({ tools, messages: [{ role: "user", content: "hi" }] }, "openai", "high");
    assert.equal(message.errorMessage, undefined);
    const body = bodyOf<{ tools: { function: { name: string } }[] }>(simulator.requests[0]);
    assert.equal(body.tools[0]?.function.name, "loop");
  });

  test("a message that contains itself is named", async () => {
    const part: Record<string, unknown> = { type: "text", text: "x" };
    part["self"] = part;
    const message = await ask({ messages: [{ role: "user", content: [part] }] }, "openai", "high");
    assert.match(message.errorMessage ?? "", /^message 0 of the conversation cannot be sent: /);
  });
});
