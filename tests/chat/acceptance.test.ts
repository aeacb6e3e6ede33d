/**
 * Whatever Pi passes in, the service accepts what is sent: each case goes through the addon to the simulator, which rejects what
 * the service rejects, in both dialects and with thinking on and off.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { AssistantMessage } from "@earendil-works/pi-ai";
import { readFileSync } from "node:fs";
import { sessions } from "../fixtures/requests/sessions.ts";
import type { Simulator } from "../simulator/index.ts";
import { answerRequests, withSimulator } from "../support/simulator.ts";
import { bodyOf } from "../support/pi.ts";
import { addon, type Dialect, DIALECTS, runOne, type TurnSetup } from "../support/turn.ts";

interface SchemaCase {
  issue: string;
  about: string;
  parameters: unknown;
}

const schemas = JSON.parse(
  readFileSync(new URL("../fixtures/requests/tool-schemas.json", import.meta.url), "utf8"),
) as SchemaCase[];
/** Tools in the manner of each schema generator. */
const servers = JSON.parse(
  readFileSync(new URL("../fixtures/requests/tool-schemas-servers.json", import.meta.url), "utf8"),
) as { style: string; tool: string; parameters: unknown }[];
const native = addon();

let simulator: Simulator;

withSimulator((given) => (simulator = given));

async function ask(context: unknown, dialect: Dialect, options: TurnSetup["options"] = {}): Promise<AssistantMessage> {
  simulator.enqueue({ steps: [{ text: "fine" }] });
  const { baseUrl, apiKey } = simulator;
  const setup = { baseUrl, apiKey, dialect, context, id: "k3", options: { sessionId: "s", ...options } };
  return (await runOne(native, setup)).message;
}

/** A rejection for a reason that normalizing cannot know. */
const refused = (message: string): { status: number; body: string } => ({
  status: 400,
  body: JSON.stringify({ error: { message, type: "invalid_request_error" } }),
});

async function accepted(context: unknown, protocol: Dialect): Promise<void> {
  for (const options of [{ reasoning: "high" }, {}] as const) {
    simulator.reset();
    const message = await ask(context, protocol, options);
    const sent = JSON.stringify(bodyOf(answerRequests(simulator).at(-1)), null, 1);
    assert.equal(message.errorMessage, undefined, sent.slice(0, 4000));
    assert.equal(answerRequests(simulator).length, 1);
    const { tools } = context as { tools?: unknown[] };
    const sentTools = bodyOf<{ tools?: unknown[] }>(answerRequests(simulator)[0]).tools ?? [];
    assert.equal(sentTools.length, tools?.length ?? 0, "no tool is dropped");
  }
}

for (const protocol of DIALECTS) {
  describe(`acceptance: tools, ${protocol}`, () => {
    for (const { issue, about, parameters } of schemas) {
      test(`${issue}: ${about}`, async () => {
        const tools = [{ name: "probe", description: "Probes.", parameters }];
        await accepted({ tools, messages: [{ role: "user", content: "hi", timestamp: 1 }] }, protocol);
      });
    }

    for (const style of new Set(servers.map((server) => server.style))) {
      test(`schemas of tool servers, ${style}: all tools are sent`, async () => {
        const tools = servers
          .filter((server) => server.style === style)
          .map(({ tool, parameters }) => ({ name: tool, description: "", parameters }));
        await accepted({ tools, messages: [{ role: "user", content: "hi", timestamp: 1 }] }, protocol);
      });
    }

    test("argument names the service reserves → calls and history keep the tool's own names", async () => {
      const parameters = {
        type: "object",
        properties: { required: { type: "boolean" }, rows: { type: "array", items: { properties: { $ref: {} } } } },
      };
      const context = {
        tools: [{ name: "define", description: "", parameters }],
        messages: [{ role: "user", content: "hi", timestamp: 1 }] as object[],
      };
      const own = { required: true, rows: [{ $ref: "a" }, { $ref: { required_: 1 } }] };
      const wire = { required_: true, rows: [{ ref_: "a" }, { ref_: { required_: 1 } }] };
      simulator.reset();
      simulator.enqueue({ steps: [{ toolCall: { name: "define", arguments: wire }, size: 3 }] });
      const { baseUrl, apiKey } = simulator;
      const { message } = await runOne(native, { baseUrl, apiKey, dialect: protocol, context, id: "k3" });
      const call = message.content.find((block) => block.type === "toolCall");
      assert.deepEqual(call?.arguments, own, message.errorMessage);
      context.messages.push(message, { role: "toolResult", toolCallId: call?.id, content: [], isError: false });
      await accepted(context, protocol);
      const replayed = JSON.stringify(bodyOf(answerRequests(simulator).at(-1))).replaceAll("\\", "");
      assert.ok(replayed.includes(JSON.stringify(wire)), replayed);
    });

    test("tool names the service does not allow → calls come back under Pi's names", async () => {
      const tools = ["3d.render", "搜索", "a b", "a.b"].map((name) => ({ name, description: "", parameters: {} }));
      await accepted({ tools, messages: [{ role: "user", content: "hi", timestamp: 1 }] }, protocol);
    });
  });

  describe(`acceptance: sessions, ${protocol}`, () => {
    for (const { issue, about, messages } of sessions) {
      test(`${issue}: ${about}`, () => accepted({ messages }, protocol));
    }
  });
}

describe("acceptance: a 400 that names the rejected item", () => {
  // Rejected items are remembered per session, so every test has an image of its own.
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
        const message = await ask({ messages: conversation() }, protocol, { reasoning: "high" });
        assert.equal(message.errorMessage, undefined);
        const [first, second] = answerRequests(simulator).map((record) => JSON.stringify(bodyOf(record)));
        assert.equal(answerRequests(simulator).length, 2);
        assert.ok(first?.includes(gone) && !second?.includes(gone) && second?.includes(kept), second);
      });
    }

    test(`${protocol}: a second 400 → the turn fails`, async () => {
      simulator.reset();
      const refusal = refused("Invalid request: unsupported image format");
      simulator.intercept(endpoint, refusal, refusal, refusal);
      const message = await ask({ messages: conversation() }, protocol, { reasoning: "high" });
      assert.match(message.errorMessage ?? "", /unsupported image format/);
      assert.equal(answerRequests(simulator).length, 2);
    });
  }

  test("payload hook with a retry → called for both requests", async () => {
    simulator.reset();
    simulator.intercept("chat", refused("Invalid request: unsupported image format"));
    const seen: string[] = [];
    const onPayload = (body: unknown): object => {
      seen.push(JSON.stringify(body));
      return { ...(body as object), temperature: 1 };
    };
    const message = await ask({ messages: conversation() }, "openai", { onPayload });
    assert.equal(message.errorMessage, undefined);
    assert.equal(seen.length, 2);
    assert.equal(bodyOf<{ temperature: number }>(answerRequests(simulator).at(-1)).temperature, 1);
  });
});

describe("acceptance: values that cannot be serialized", () => {
  test("tool parameters with a cycle → replaced, the tool is sent", async () => {
    const parameters: Record<string, unknown> = { type: "object" };
    parameters["properties"] = { self: parameters };
    simulator.reset();
    const tools = [{ name: "loop", description: "d", parameters }];
    const message = await ask({ tools, messages: [{ role: "user", content: "hi" }] }, "openai", { reasoning: "high" });
    assert.equal(message.errorMessage, undefined);
    const body = bodyOf<{ tools: { function: { name: string } }[] }>(answerRequests(simulator)[0]);
    assert.equal(body.tools[0]?.function.name, "loop");
  });

  test("message with a cycle → the error names it", async () => {
    const part: Record<string, unknown> = { type: "text", text: "x" };
    part["self"] = part;
    const message = await ask({ messages: [{ role: "user", content: [part] }] }, "openai", { reasoning: "high" });
    assert.match(message.errorMessage ?? "", /^message 0 of the conversation cannot be sent: /);
  });
});
