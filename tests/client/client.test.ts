/** The client for plain Node programs: what it takes, what comes back, how it fails, how it ends. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, beforeEach, describe, test } from "node:test";
import type { Context, Message } from "@earendil-works/pi-ai";
import {
  type AssistantMessage,
  type ChatEvent,
  type ChatMessage,
  Kimi,
  KIMI_ERROR_CODES,
  KimiError,
} from "../../index.ts";
import { type Simulator, startSimulator } from "../simulator/index.ts";
import { bodyOf, Home, ROOT } from "../support/pi.ts";

let simulator: Simulator;
let kimi: Kimi;

const home = new Home();

before(async () => {
  Object.assign(process.env, { HOME: home.home, USERPROFILE: home.home, PI_CODING_AGENT_DIR: home.agent });
  // The gate knows agents by name, and we do not pretend to be one of them.
  simulator = await startSimulator({ identityGate: "off" });
});
after(async () => {
  await simulator.close();
  home.remove();
});
beforeEach(() => {
  simulator.reset();
  kimi = new Kimi({ baseUrl: simulator.baseUrl, apiKey: simulator.apiKey });
});

const LONG = { steps: [{ repeat: { kind: "text", count: 100_000, text: "word ", perSecond: 500 } }] } as never;

interface Body {
  model: string;
  messages: { role: string; content?: unknown; [member: string]: unknown }[];
  tools?: { function: { name: string } }[];
  thinking?: { type: string; effort?: string };
}

function lastBody(): Body {
  return bodyOf<Body>(simulator.requests.at(-1));
}

async function failure(promise: Promise<unknown>): Promise<KimiError> {
  const error: unknown = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof KimiError, `a KimiError, not ${String(error)}`);
  return error;
}

/** A PNG of one pixel. */
const PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

describe("an answer", () => {
  test("comes as events and as a whole", async () => {
    simulator.enqueue({
      steps: [{ thinking: "Hm." }, { text: "Hello.", size: 2 }, { toolCall: { name: "look", arguments: { at: [1] } } }],
    });
    const chat = kimi.chat("hi");
    const events: ChatEvent[] = [];
    for await (const event of chat) events.push(event);
    const message = await chat.final();
    assert.deepEqual(
      message.content.map(({ type }) => type),
      ["thinking", "text", "toolCall"],
    );
    assert.equal(events[0]?.type, "start");
    assert.deepEqual(events.at(-1), { type: "done", reason: "toolUse", message });
    const deltas = events.flatMap((event) => (event.type === "text_delta" ? [event.delta] : []));
    assert.equal(deltas.join(""), "Hello.");
    const call = events.find((event) => event.type === "toolcall_end");
    assert.deepEqual(call?.toolCall.arguments, { at: [1] });
    assert.ok(message.usage.input > 0 && message.usage.cost.total > 0);
  });

  test("needs no loop", async () => {
    simulator.enqueue({ steps: [{ text: "Just this." }] });
    assert.equal(await kimi.chat("hi").text(), "Just this.");
  });

  test("can be put straight back into the conversation", async () => {
    const messages: ChatMessage[] = [{ role: "user", content: "one" }];
    simulator.enqueue({ steps: [{ thinking: "Hm." }, { text: "first" }] }, { steps: [{ text: "second" }] });
    messages.push(await kimi.chat(messages).final(), { role: "user", content: "two" });
    assert.equal(await kimi.chat({ messages, sessionId: "s1" }).text(), "second");
    const [, assistant] = lastBody().messages;
    assert.deepEqual(assistant, { role: "assistant", reasoning_content: "Hm.", content: "first" });
  });
});

describe("what is asked", () => {
  test("OpenAI's words arrive as they were meant", async () => {
    simulator.enqueue({ steps: [{ text: "ok" }] });
    await kimi
      .chat({
        model: "k3",
        thinking: "high",
        messages: [
          { role: "system", content: "Be brief." },
          { role: "user", content: [{ type: "text", text: "Look." }] },
          {
            role: "assistant",
            content: null,
            reasoning_content: "I look.",
            tool_calls: [{ id: "look:0", type: "function", function: { name: "look", arguments: '{"at":1}' } }],
          },
          { role: "tool", tool_call_id: "look:0", content: "a wall" },
          {
            role: "user",
            content: [{ type: "image_url", image_url: { url: `data:image/png;base64,${PIXEL}` } }],
          },
        ],
        tools: [{ type: "function", function: { name: "look", description: "d", parameters: { type: "object" } } }],
      })
      .final();
    const body = lastBody();
    assert.equal(body.model, "k3");
    assert.equal(body.thinking?.effort, "high");
    assert.deepEqual(
      body.tools?.map((tool) => tool.function.name),
      ["look"],
    );
    const [system, , assistant, tool, image] = body.messages;
    assert.deepEqual(system, { role: "system", content: "Be brief." });
    assert.equal(assistant?.["reasoning_content"], "I look.");
    assert.equal(tool?.["content"], "a wall");
    assert.match(JSON.stringify(image), /data:image\/png;base64,iVBOR/);
  });

  test("pictures may come in every form of OpenAI's, and links stay what they are", async () => {
    const [head, data] = ["data:image/png;base64,", PIXEL];
    for (const [source, sent] of [
      [`${head}${data}`, `${head}${data}`],
      [{ url: `data:image/png;charset=utf-8;base64,${data}` }, `${head}${data}`],
      [{ url: `DATA:image/png;BASE64,${data}` }, `${head}${data}`],
      [{ url: `data:;base64,${data}` }, `${head}${data}`],
      [{ url: "https://example.com/a.png" }, "https://example.com/a.png"],
    ] as const) {
      const content = [{ type: "image_url", image_url: source }] as never;
      await kimi.chat([{ role: "user", content }]).text();
      const parts = lastBody().messages.at(-1)?.["content"];
      assert.deepEqual(parts, [{ type: "image_url", image_url: { url: sent } }]);
    }
  });

  test("Pi's transcript means the same to us as to Pi", async () => {
    const transcript: Message[] = [
      { role: "user", content: "Look.", timestamp: 1 },
      {
        role: "assistant",
        content: [
          { type: "thinking", thinking: "I look.", thinkingSignature: "reasoning_content" },
          { type: "toolCall", id: "look:0", name: "look", arguments: { at: 1 } },
        ],
        api: "openai-completions",
        provider: "kimi-coding",
        model: "kimi-for-coding",
        usage: {
          input: 1,
          output: 1,
          cacheRead: 0,
          cacheWrite: 0,
          totalTokens: 2,
          cost: { input: 0, output: 0, cacheRead: 0, cacheWrite: 0, total: 0 },
        },
        stopReason: "toolUse",
        timestamp: 2,
      },
      {
        role: "toolResult",
        toolCallId: "look:0",
        toolName: "look",
        content: [{ type: "text", text: "a wall" }],
        isError: false,
        timestamp: 3,
      },
    ];
    const context: Context = { systemPrompt: "Be brief.", messages: transcript };
    simulator.enqueue({ steps: [{ text: "ok" }] }, { steps: [{ text: "ok" }] });
    await kimi.chat({ messages: transcript, system: "Be brief." }).final();
    const { messages } = lastBody();
    await kimi
      .chat([
        { role: "system", content: context.systemPrompt ?? "" },
        { role: "user", content: "Look." },
        {
          role: "assistant",
          reasoning_content: "I look.",
          tool_calls: [{ id: "look:0", function: { name: "look", arguments: '{"at":1}' } }],
        },
        { role: "tool", tool_call_id: "look:0", content: "a wall" },
      ])
      .final();
    assert.deepEqual(lastBody().messages, messages);
  });

  test("a model that we do not know is asked for all the same", async () => {
    simulator.enqueue({ steps: [{ text: "ok" }] });
    await kimi.chat("hi", { model: "k9-preview" }).final();
    assert.equal(lastBody().model, "k9-preview");
  });

  test("we say who we are, and a caller may say who it is", async () => {
    simulator.enqueue({ steps: [{ text: "ok" }] }, { steps: [{ text: "ok" }] });
    await kimi.chat("hi").final();
    await kimi.chat("hi", { headers: { "User-Agent": "my-agent/1" } }).final();
    const agents = simulator.requests.map(({ headers }) => headers["user-agent"]);
    assert.match(agents[0] ?? "", /^pi-provider-kimi-code\/\d/);
    assert.equal(agents[1], "my-agent/1");
  });

  test("the payload hook has the last word", async () => {
    simulator.enqueue({ steps: [{ text: "ok" }] });
    await kimi.chat("hi", { onPayload: (body) => ({ ...(body as object), mark: 7 }) }).final();
    assert.equal(bodyOf<{ mark: number }>(simulator.requests.at(-1)).mark, 7);
  });
});

describe("failures", () => {
  test("carry code, class, status and what had arrived", async () => {
    simulator.enqueue({ steps: [{ text: "Half" }, { cut: "end" }] });
    const error = await failure(kimi.chat("hi").final());
    assert.deepEqual([error.code, error.name], ["truncated", "KimiServerError"]);
    assert.deepEqual(error.partial?.content, [{ type: "text", text: "Half" }]);
  });

  test("a refused key is an authentication error", async () => {
    const error = await failure(new Kimi({ baseUrl: simulator.baseUrl, apiKey: "sk-wrong" }).chat("hi").final());
    assert.deepEqual([error.code, error.name, error.status], ["unauthorized", "KimiAuthError", 401]);
    assert.ok(!error.message.includes("sk-wrong"));
  });

  test("a service that refuses unknown clients names the cause", async () => {
    simulator.settings.identityGate = "agent";
    const error = await failure(kimi.chat("hi").final());
    assert.deepEqual([error.code, error.status], ["client_refused", 403]);
  });

  test("what a hook throws is the cause", async () => {
    const thrown = Object.assign(new Error("not today"), { detail: 7 });
    const refuse = (): never => {
      throw thrown;
    };
    const error = await failure(kimi.chat("hi", { onPayload: refuse }).final());
    assert.deepEqual([error.code, error.message, error.cause], ["internal", "not today", thrown]);
    simulator.enqueue({ steps: [{ text: "ok" }] });
    assert.equal((await failure(kimi.chat("hi", { onResponse: refuse }).final())).cause, thrown);
  });

  test("iterating throws the same error", async () => {
    simulator.enqueue({ steps: [{ text: "Half" }, { cut: "end" }] });
    const chat = kimi.chat("hi");
    const seen: string[] = [];
    const looping = (async () => {
      for await (const { type } of chat) seen.push(type);
    })();
    assert.equal((await failure(looping)).code, "truncated");
    assert.ok(seen.includes("text_delta"));
  });

  test("a message that cannot be read is named", () => {
    const broken = [{ role: "assistant", tool_calls: [{ id: "x", function: { name: "f", arguments: "{" } }] }] as const;
    assert.throws(() => kimi.chat([{ role: "user", content: "a" }, ...broken]), /message 1.*tool call x are not JSON/);
    for (const source of [{ url: "file:///a.png" }, { url: "data:image/png,abc" }, "a.png", {}, null, undefined]) {
      const content = [{ type: "image_url", image_url: source }] as never;
      assert.throws(() => kimi.chat([{ role: "user", content }]), {
        code: "bad_media",
        message: /message 0: an image/,
      });
    }
  });

  /** Both dialects take addresses (docs/protocol.md#messages, docs/protocol.md#messages-body). */
  test("the web address of an image is passed on as it is", async () => {
    const url = "https://example.com/a.png";
    const messages = [{ role: "user", content: [{ type: "image_url", image_url: { url } }] }] as const;
    for (const [protocol, part] of [
      ["openai", { type: "image_url", image_url: { url } }],
      ["anthropic", { type: "image", source: { type: "url", url } }],
    ] as const) {
      simulator.enqueue({ steps: [{ text: "a cat" }] });
      const asked = new Kimi({ baseUrl: simulator.baseUrl, apiKey: simulator.apiKey, settings: { protocol } });
      assert.equal(await asked.chat(messages).text(), "a cat");
      const body = bodyOf<{ messages: { content: object[] }[] }>(simulator.requests.at(-1));
      assert.deepEqual(body.messages.at(-1)?.content[0], part);
    }
  });

  test("a retry is announced", async () => {
    simulator.enqueue(
      {
        http: { status: 429, headers: { "retry-after": "0" }, body: { error: { message: "too many requests" } } },
      } as never,
      { steps: [{ text: "ok" }] },
    );
    const kinds: string[] = [];
    for await (const event of kimi.chat("hi")) kinds.push(event.type === "retry" ? `retry ${event.code}` : event.type);
    assert.equal(kinds[0], "retry rate_limited");
    assert.equal(kinds.at(-1), "done");
  });
});

describe("stopping", () => {
  test("the signal's reason is the cause", async () => {
    simulator.enqueue(LONG);
    const controller = new AbortController();
    const chat = kimi.chat("hi", { signal: controller.signal });
    // A request that is still on its way when a test ends would take the scenario of the test that follows.
    await simulator.waitForRequest(() => true);
    controller.abort("enough");
    const error = await failure(chat.final());
    assert.deepEqual([error.code, error.name, error.cause], ["cancelled", "AbortError", "enough"]);
    await simulator.waitForRequest((request) => request.ended === "aborted");
  });

  test("a signal that fired before sends nothing", async () => {
    const error = await failure(kimi.chat("hi", { signal: AbortSignal.abort("no") }).final());
    assert.deepEqual([error.code, error.cause, simulator.requests.length], ["cancelled", "no", 0]);
  });

  test("leaving the loop closes the connection", async () => {
    simulator.enqueue(LONG);
    const chat = kimi.chat("hi");
    for await (const event of chat) if (event.type === "text_delta") break;
    const { partial } = await failure(chat.final());
    assert.match((partial as AssistantMessage & { content: [{ text: string }] }).content[0].text, /word/);
    await simulator.waitForRequest((request) => request.ended === "aborted");
  });

  test("abort() does too", async () => {
    simulator.enqueue(LONG);
    const chat = kimi.chat("hi");
    await simulator.waitForRequest(() => true);
    chat.abort();
    assert.equal((await failure(chat.final())).code, "cancelled");
  });
});

describe("a login", () => {
  const there = (): Kimi =>
    new Kimi({ baseUrl: simulator.baseUrl, env: { KIMI_CODE_OAUTH_HOST: simulator.oauthHost, KIMI_API_KEY: "" } });

  test("is kept for the chats that follow", async () => {
    assert.equal(there().hasLogin(), false);
    assert.equal((await failure(there().chat("hi").final())).code, "login_required");
    const codes: string[] = [];
    await there().login({ onCode: ({ userCode, url }) => codes.push(`${userCode} ${url}`), region: "mainland-cn" });
    assert.match(codes.join(), /^\S+ http\S+$/);
    assert.equal(there().hasLogin(), true);
    simulator.enqueue({ steps: [{ text: "Signed in." }] });
    assert.equal(await there().chat("hi").text(), "Signed in.");
  });

  test("opens search, fetch and data sources", async () => {
    await there().login({ onCode: () => {}, region: "mainland-cn" });
    const { results, text } = await there().search("weather in Beijing");
    assert.ok(results.length > 0 && text !== "");
    assert.notEqual((await there().fetch("https://example.com/")).text, "");
    const [source] = there().datasources()[0] ?? [];
    assert.notEqual((await there().datasource({ source: source ?? "" })).text, "");
    const error = await failure(there().search("x", { signal: AbortSignal.abort("enough") }));
    assert.deepEqual([error.code, error.cause], ["cancelled", "enough"]);
  });

  test("ends with its signal, and with an onCode that throws", async () => {
    simulator.oauth.scripts.push(["authorization_pending"]);
    const controller = new AbortController();
    const login = there().login({ onCode: () => controller.abort("enough"), signal: controller.signal });
    const error = await failure(login);
    assert.deepEqual([error.code, error.cause], ["cancelled", "enough"]);
    const broken = there().login({
      onCode: () => {
        throw new Error("no screen");
      },
    });
    await assert.rejects(broken, /no screen/);
  });
});

describe("facts", () => {
  test("models, quota and account come from the service", async () => {
    const models = await kimi.models();
    assert.ok(models.some(({ id, contextWindow }) => id === "kimi-for-coding" && contextWindow > 100_000));
    const { usage } = await kimi.usage();
    assert.ok((usage?.windows.length ?? 0) > 0);
    assert.equal(typeof (await kimi.account()).userId, "string");
  });

  test("a page in place of quota or account is named by its title, without the key that it quotes", async () => {
    const apiKey = "sk-kimi-in-the-hotel-0123456789";
    simulator.credentials.add(apiKey);
    const page = { status: 200, body: `<html><title>Sign in to the hotel, ${apiKey}</title></html>` };
    simulator.intercept("usages", page);
    simulator.intercept("me", page);
    const guest = new Kimi({ baseUrl: simulator.baseUrl, apiKey });
    for (const error of [await failure(guest.usage()), await failure(guest.account())]) {
      assert.equal(error.code, "protocol");
      assert.match(error.message, /Sign in to the hotel/);
      assert.doesNotMatch(error.message, /0123456789/);
    }
  });

  test("a refusal is an error with its code, and a signal ends the wait", async () => {
    const refused = new Kimi({ baseUrl: simulator.baseUrl, apiKey: "sk-wrong" });
    assert.equal((await failure(refused.models())).code, "unauthorized");
    const error = await failure(kimi.account({ signal: AbortSignal.abort("enough") }));
    assert.deepEqual([error.code, error.cause], ["cancelled", "enough"]);
  });
});

test("every code of the addon has a class, and a cause and a cure in the documents", () => {
  const rust = readFileSync(join(ROOT, "src", "error", "mod.rs"), "utf8");
  const [, body = ""] = /pub fn code\(&self\) -> &'static str \{(.*?)\n    \}/s.exec(rust) ?? [];
  const codes = [...body.matchAll(/=> "(\w+)"/g)].map(([, code]) => code);
  assert.ok(codes.length > 20);
  assert.deepEqual([...KIMI_ERROR_CODES].sort(), [...codes, "addon_missing"].sort());
  const documented = readFileSync(join(ROOT, "docs", "troubleshooting.md"), "utf8");
  for (const code of KIMI_ERROR_CODES)
    assert.match(documented, new RegExp(`^\\| \`${code}\` \\| \\w.+ \\| [\\w\`].+ \\|$`, "m"));
});

test("several clients in one process keep apart", async () => {
  const other = await startSimulator({ identityGate: "off", apiKey: "sk-other" });
  try {
    simulator.enqueue({ steps: [{ text: "here" }] });
    other.enqueue({ steps: [{ text: "there" }] });
    const there = new Kimi({ baseUrl: other.baseUrl, apiKey: "sk-other" });
    assert.deepEqual(await Promise.all([kimi.chat("a").text(), there.chat("b").text()]), ["here", "there"]);
  } finally {
    await other.close();
  }
});
