/** The client for Node programs: requests, answers, errors, abort, login, queries. */
import assert from "node:assert/strict";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Context, Message } from "@earendil-works/pi-ai";
import {
  type AssistantMessage,
  type Chat,
  type ChatEvent,
  type ChatMessage,
  Kimi,
  KIMI_ERROR_CODES,
  type KimiOptions,
} from "../../index.ts";
import { type Simulator, startSimulator } from "../simulator/index.ts";
import { repeat } from "../simulator/scenario.ts";
import { failure } from "../support/failure.ts";
import { withClientHome } from "../support/client-home.ts";
import { bodyOf, ROOT } from "../support/pi.ts";
import { answerRequests } from "../support/simulator.ts";

let simulator: Simulator;
let kimi: Kimi;
let options: KimiOptions;

withClientHome((started) => (simulator = started));
beforeEach(() => {
  options = { baseUrl: simulator.baseUrl, apiKey: simulator.apiKey };
  kimi = new Kimi(options);
});

const LONG = { steps: [{ repeat: { kind: "text", count: 100_000, text: "word ", perSecond: 500 } }] } as never;

interface Body {
  model: string;
  messages: { role: string; content?: unknown; [member: string]: unknown }[];
  tools?: { function: { name: string } }[];
  thinking?: { type: string; effort?: string };
}

function lastBody(): Body {
  return bodyOf<Body>(answerRequests(simulator).at(-1));
}

/** A PNG of one pixel. */
const PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

describe("answers", () => {
  test("answer: text, reasoning and a call → events and the whole message", async () => {
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

  test("answer: text() → the text without a loop", async () => {
    simulator.enqueue({ steps: [{ text: "Just this." }] });
    assert.equal(await kimi.chat("hi").text(), "Just this.");
  });

  test("answer: appended to the conversation → keeps its reasoning", async () => {
    const messages: ChatMessage[] = [{ role: "user", content: "one" }];
    simulator.enqueue({ steps: [{ thinking: "Hm." }, { text: "first" }] }, { steps: [{ text: "second" }] });
    messages.push(await kimi.chat(messages).final(), { role: "user", content: "two" });
    assert.equal(await kimi.chat({ messages, sessionId: "s1" }).text(), "second");
    const [, assistant] = lastBody().messages;
    assert.deepEqual(assistant, { role: "assistant", reasoning_content: "Hm.", content: "first" });
  });
});

describe("a consumer that stops reading", () => {
  const CHUNK = "word ".repeat(4000);
  const CHUNKS = 2000;

  /** Starts an answer of 40 MB and takes its first delta. */
  async function begun(): Promise<{ chat: Chat; events: AsyncIterator<ChatEvent> }> {
    simulator.enqueue({ steps: [repeat("text", CHUNKS, CHUNK)] });
    const chat = kimi.chat("hi");
    const events = chat[Symbol.asyncIterator]();
    while ((await events.next()).value?.type !== "text_delta");
    return { chat, events };
  }

  test("consumer waits → the service waits too, and nothing is lost when it reads on", async () => {
    const { chat, events } = await begun();
    const sent = (): number => answerRequests(simulator).at(-1)?.sentEvents ?? 0;
    let before = -1;
    while (before !== sent()) {
      before = sent();
      await sleep(500);
    }
    // The kernel's buffers hold some megabytes besides ours.
    assert.ok(before < CHUNKS * 0.7, `${before} of ${CHUNKS} chunks were sent`);
    let read = 0;
    for (let next = await events.next(); !next.done; next = await events.next()) {
      if (next.value.type === "text_end") read = next.value.content.length;
    }
    assert.equal(read, CHUNKS * CHUNK.length);
    assert.equal((await chat.text()).length, read);
  });

  test("the whole message is awaited meanwhile → it arrives", async () => {
    const { chat } = await begun();
    assert.equal((await chat.text()).length, CHUNKS * CHUNK.length);
  });

  test("abort while the service waits → the message rejects at once", async () => {
    const { chat, events } = await begun();
    await sleep(300);
    await events.return?.(undefined);
    assert.equal((await failure(chat.final())).code, "cancelled");
  });
});

describe("requests", () => {
  test("request: OpenAI-style messages and tools → the same in the body", async () => {
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

  test("request: image URLs in every form → normalized data URLs, links unchanged", async () => {
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

  test("request: Pi's transcript → the same body as OpenAI-style messages", async () => {
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

  test("request: an unknown model id → is sent", async () => {
    simulator.enqueue({ steps: [{ text: "ok" }] });
    await kimi.chat("hi", { model: "k9-preview" }).final();
    assert.equal(lastBody().model, "k9-preview");
  });

  test("request: User-Agent → ours by default, the caller's if given", async () => {
    simulator.enqueue({ steps: [{ text: "ok" }] }, { steps: [{ text: "ok" }] });
    await kimi.chat("hi").final();
    await kimi.chat("hi", { headers: { "User-Agent": "my-agent/1" } }).final();
    const agents = answerRequests(simulator).map(({ headers }) => headers["user-agent"]);
    assert.match(agents[0] ?? "", /^pi-provider-kimi-code\/\d/);
    assert.equal(agents[1], "my-agent/1");
  });

  test("request: headers of the client → on every request but those to the OAuth host", async () => {
    const named = new Kimi({
      baseUrl: simulator.baseUrl,
      headers: { "user-agent": "my-agent/1", "X-Own": "yes", Accept: null, "Content-Length": "5" },
      env: { KIMI_CODE_OAUTH_HOST: simulator.oauthHost, KIMI_API_KEY: "" },
    });
    await named.login({ onCode: () => {}, region: "mainland-cn" });
    simulator.enqueue({ steps: [{ text: "ok" }] }, { steps: [{ text: "ok" }] });
    await named.chat("hi").final();
    await named.chat("hi", { headers: { "User-Agent": "my-agent/2" } }).final();
    await Promise.all([named.models(), named.usage(), named.account()]);
    await named.files.upload(Buffer.from(PIXEL, "base64"));
    await named.search("weather in Beijing");
    await named.fetch("https://example.com/");
    const asked = new Set<string>();
    for (const { endpoint, headers } of simulator.requests) {
      asked.add(endpoint);
      const seen = [headers["user-agent"], headers["x-own"]];
      if (endpoint === "device" || endpoint === "token") {
        assert.match(seen[0] ?? "", /^pi-provider-kimi-code\//);
        assert.equal(seen[1], undefined);
      } else if (seen[0] === "my-agent/2") assert.deepEqual([endpoint, seen[1]], ["chat", "yes"]);
      else assert.deepEqual(seen, ["my-agent/1", "yes"], endpoint);
    }
    const all = ["chat", "device", "files", "models", "search", "fetch", "token", "usages", "me"];
    assert.deepEqual(
      all.filter((endpoint) => !asked.has(endpoint)),
      [],
    );
    assert.equal(answerRequests(simulator)[1]?.headers["user-agent"], "my-agent/2");
    assert.equal(await named.logout(), true);
  });

  test("request: an Authorization of the caller → on chats, and what is stored about the account stays that of its key", async () => {
    const other = "sk-kimi-other-account-0123456789";
    simulator.credentials.add(other);
    const { baseUrl, apiKey } = simulator;
    const kimi = new Kimi({ baseUrl, apiKey, headers: { Authorization: `Bearer ${other}` } });
    simulator.enqueue({ steps: [{ text: "ok" }] });
    await kimi.chat("hi").final();
    await Promise.all([kimi.models(), kimi.usage()]);
    for (const { endpoint, headers } of simulator.requests) {
      const sent = endpoint === "chat" ? other : apiKey;
      assert.equal(headers["authorization"], `Bearer ${sent}`, endpoint);
    }
  });

  test("request: payload hook → its body is sent", async () => {
    simulator.enqueue({ steps: [{ text: "ok" }] });
    await kimi.chat("hi", { onPayload: (body) => ({ ...(body as object), mark: 7 }) }).final();
    assert.equal(bodyOf<{ mark: number }>(answerRequests(simulator).at(-1)).mark, 7);
  });
});

describe("errors", () => {
  test("error: a truncated answer → code, class and partial message", async () => {
    simulator.enqueue({ steps: [{ text: "Half" }, { cut: "end" }] });
    const error = await failure(kimi.chat("hi").final());
    assert.deepEqual([error.code, error.name], ["truncated", "KimiServerError"]);
    assert.deepEqual(error.partial?.content, [{ type: "text", text: "Half" }]);
  });

  test("error: a refused key → authentication error without the key", async () => {
    const error = await failure(new Kimi({ baseUrl: simulator.baseUrl, apiKey: "sk-wrong" }).chat("hi").final());
    assert.deepEqual([error.code, error.name, error.status], ["unauthorized", "KimiAuthError", 401]);
    assert.ok(!error.message.includes("sk-wrong"));
  });

  test("error: the service refuses unknown clients → client_refused", async () => {
    simulator.settings.identityGate = "agent";
    const error = await failure(kimi.chat("hi").final());
    assert.deepEqual([error.code, error.status], ["client_refused", 403]);
    assert.match(error.message, /which others it accepts is not known\. Your program can send a name of its own/);
    const headers = { "User-Agent": "my-agent/1.2" };
    for (const named of [kimi.chat("hi", { headers }), new Kimi({ ...options, headers }).chat("hi")]) {
      const { code, message } = await failure(named.final());
      assert.equal(code, "client_refused");
      assert.match(message, /does not accept the User-Agent "my-agent\/1\.2"/);
      assert.doesNotMatch(message, /headers|can send|identity/);
    }
  });

  test("error: a hook throws → its error is the cause", async () => {
    const thrown = Object.assign(new Error("not today"), { detail: 7 });
    const refuse = (): never => {
      throw thrown;
    };
    const error = await failure(kimi.chat("hi", { onPayload: refuse }).final());
    assert.deepEqual([error.code, error.message, error.cause], ["internal", "not today", thrown]);
    simulator.enqueue({ steps: [{ text: "ok" }] });
    assert.equal((await failure(kimi.chat("hi", { onResponse: refuse }).final())).cause, thrown);
  });

  test("error: while iterating → thrown by the loop", async () => {
    simulator.enqueue({ steps: [{ text: "Half" }, { cut: "end" }] });
    const chat = kimi.chat("hi");
    const seen: string[] = [];
    const looping = (async () => {
      for await (const { type } of chat) seen.push(type);
    })();
    assert.equal((await failure(looping)).code, "truncated");
    assert.ok(seen.includes("text_delta"));
  });

  test("error: an unreadable message → is named", () => {
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
  test("request: the web address of an image → is sent as it is", async () => {
    const url = "https://example.com/a.png";
    const messages = [{ role: "user", content: [{ type: "image_url", image_url: { url } }] }] as const;
    for (const [protocol, part] of [
      ["openai", { type: "image_url", image_url: { url } }],
      ["anthropic", { type: "image", source: { type: "url", url } }],
    ] as const) {
      simulator.enqueue({ steps: [{ text: "a cat" }] });
      const asked = new Kimi({ baseUrl: simulator.baseUrl, apiKey: simulator.apiKey, settings: { protocol } });
      assert.equal(await asked.chat(messages).text(), "a cat");
      const body = bodyOf<{ messages: { content: object[] }[] }>(answerRequests(simulator).at(-1));
      assert.deepEqual(body.messages.at(-1)?.content[0], part);
    }
  });

  test("retry: a 429 → announced by an event", async () => {
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

describe("abort", () => {
  test("abort: a signal → its reason is the cause", async () => {
    simulator.enqueue(LONG);
    const controller = new AbortController();
    const chat = kimi.chat("hi", { signal: controller.signal });
    // A request that arrives after the test would take the scenario of the next test.
    await simulator.waitForRequest(() => true);
    controller.abort("enough");
    const error = await failure(chat.final());
    assert.deepEqual([error.code, error.name, error.cause], ["cancelled", "AbortError", "enough"]);
    await simulator.waitForRequest((request) => request.ended === "aborted");
  });

  test("abort: a signal that has fired → nothing is sent", async () => {
    const error = await failure(kimi.chat("hi", { signal: AbortSignal.abort("no") }).final());
    assert.deepEqual([error.code, error.cause, simulator.requests.length], ["cancelled", "no", 0]);
  });

  test("abort: leaving the loop → closes the connection", async () => {
    simulator.enqueue(LONG);
    const chat = kimi.chat("hi");
    for await (const event of chat) if (event.type === "text_delta") break;
    const { partial } = await failure(chat.final());
    assert.match((partial as AssistantMessage & { content: [{ text: string }] }).content[0].text, /word/);
    await simulator.waitForRequest((request) => request.ended === "aborted");
  });

  test("abort: abort() → cancels", async () => {
    simulator.enqueue(LONG);
    const chat = kimi.chat("hi");
    await simulator.waitForRequest(() => true);
    chat.abort();
    assert.equal((await failure(chat.final())).code, "cancelled");
  });
});

describe("login", () => {
  const there = (): Kimi =>
    new Kimi({ baseUrl: simulator.baseUrl, env: { KIMI_CODE_OAUTH_HOST: simulator.oauthHost, KIMI_API_KEY: "" } });

  test("login: device flow → later chats use it", async () => {
    assert.equal(there().hasLogin(), false);
    assert.equal((await failure(there().chat("hi").final())).code, "login_required");
    const codes: string[] = [];
    await there().login({ onCode: ({ userCode, url }) => codes.push(`${userCode} ${url}`), region: "mainland-cn" });
    assert.match(codes.join(), /^\S+ http\S+$/);
    assert.equal(there().hasLogin(), true);
    simulator.enqueue({ steps: [{ text: "Signed in." }] });
    assert.equal(await there().chat("hi").text(), "Signed in.");
  });

  test("login: search, fetch and data sources → answer", async () => {
    await there().login({ onCode: () => {}, region: "mainland-cn" });
    const { results, text } = await there().search("weather in Beijing");
    assert.ok(results.length > 0 && text !== "");
    assert.notEqual((await there().fetch("https://example.com/")).text, "");
    const [source] = there().datasources()[0] ?? [];
    assert.notEqual((await there().datasource({ source: source ?? "" })).text, "");
    const error = await failure(there().search("x", { signal: AbortSignal.abort("enough") }));
    assert.deepEqual([error.code, error.cause], ["cancelled", "enough"]);
  });

  test("login: search, fetch and data sources beside a key → use the login", async () => {
    await there().login({ onCode: () => {}, region: "mainland-cn" });
    const env = { KIMI_CODE_OAUTH_HOST: simulator.oauthHost };
    const named = new Kimi({ baseUrl: simulator.baseUrl, env, apiKey: simulator.apiKey });
    const variable = new Kimi({ baseUrl: simulator.baseUrl, env: { ...env, KIMI_API_KEY: simulator.apiKey } });
    for (const kimi of [named, variable]) {
      assert.ok((await kimi.search("weather in Beijing")).results.length > 0);
      assert.notEqual((await kimi.fetch("https://example.com/")).text, "");
      assert.notEqual((await kimi.datasource({ source: "arxiv" })).text, "");
      assert.equal(await kimi.chat("hi").text(), "You said: hi");
      assert.equal(answerRequests(simulator).at(-1)?.headers["authorization"], `Bearer ${simulator.apiKey}`);
    }
  });

  test("login: in Pi's file → hasLogin(); a key, a tombstone, another region → none", async () => {
    const file = join(process.env["PI_CODING_AGENT_DIR"] ?? "", "auth.json");
    const store = (entry: object): void => writeFileSync(file, JSON.stringify({ "kimi-coding": entry }));
    const env = { KIMI_CODE_OAUTH_HOST: simulator.oauthHost, KIMI_CODE_HOME: join(file, "..", "no-official-client") };
    const here = new Kimi({ baseUrl: simulator.baseUrl, env });
    const { access, refresh } = simulator.oauth.login();
    const login = { type: "oauth", access, refresh, expires: Date.now() + 900_000 };
    try {
      assert.equal(here.hasLogin(), false);
      store(login);
      assert.equal(here.hasLogin(), true);
      assert.equal(await here.chat("hi").text(), "You said: hi");
      for (const none of [
        { type: "api_key", key: simulator.apiKey },
        { ...login, access: "", refresh: "" },
      ]) {
        store(none);
        assert.equal(here.hasLogin(), false, JSON.stringify(none));
      }
      store({ ...login, baseUrl: "https://api.kimi.com/coding" });
      assert.equal(new Kimi({ env: { ...env, KIMI_CODE_REGION: "global" } }).hasLogin(), false);
    } finally {
      rmSync(file, { force: true });
    }
  });

  test("login: signal or throwing onCode → ends", async () => {
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

describe("queries", () => {
  test("queries: models, quota, account → from the service", async () => {
    const models = await kimi.models();
    assert.ok(models.some(({ id, contextWindow }) => id === "kimi-for-coding" && contextWindow > 100_000));
    const { usage } = await kimi.usage();
    assert.ok((usage?.windows.length ?? 0) > 0);
    assert.equal(typeof (await kimi.account()).userId, "string");
  });

  test("queries: an HTML page that quotes the key → error with its title, without the key", async () => {
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

  test("queries: quota that can no longer be asked for → the last one, with a problem that speaks to programs", async () => {
    const apiKey = "sk-kimi-renamed-0123456789";
    simulator.credentials.add(apiKey);
    const guest = new Kimi({ baseUrl: simulator.baseUrl, apiKey });
    assert.equal((await guest.usage()).problem, null);
    simulator.credentials.delete(apiKey);
    const { usage, problem } = await guest.usage();
    assert.ok((usage?.windows.length ?? 0) > 0);
    assert.match(problem ?? "", /^401 .*KIMI_API_KEY, or the option apiKey\), or sign in with kimi\.login\(\)/);
    assert.doesNotMatch(problem ?? "", /\/login/);
  });

  test("queries: refused key → code; signal → cancelled", async () => {
    const refused = new Kimi({ baseUrl: simulator.baseUrl, apiKey: "sk-wrong" });
    assert.equal((await failure(refused.models())).code, "unauthorized");
    const error = await failure(kimi.account({ signal: AbortSignal.abort("enough") }));
    assert.deepEqual([error.code, error.cause], ["cancelled", "enough"]);
  });
});

test("error codes: every code of the addon → has a class and a row in the documents", () => {
  const rust = readFileSync(join(ROOT, "src", "error", "kind.rs"), "utf8");
  const [, body = ""] = /pub fn code\(&self\) -> &'static str \{(.*?)\n    \}/s.exec(rust) ?? [];
  const codes = [...body.matchAll(/=> "(\w+)"/g)].map(([, code]) => code);
  assert.ok(codes.length > 20);
  assert.deepEqual([...KIMI_ERROR_CODES].sort(), [...codes, "addon_missing", "invalid_object", "tool_loop"].sort());
  const documented = readFileSync(join(ROOT, "docs", "troubleshooting.md"), "utf8");
  for (const code of KIMI_ERROR_CODES)
    assert.match(documented, new RegExp(`^\\| \`${code}\` \\| \\w.+ \\| [\\w\`].+ \\|$`, "m"));
});

test("clients: two in one process → each uses its own service", async () => {
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
