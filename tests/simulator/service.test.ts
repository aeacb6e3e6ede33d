// The simulator as a service: authentication, state, default answers, admin interface.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { type IncomingMessage, request } from "node:http";
import { connect } from "node:net";
import { text as streamText } from "node:stream/consumers";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { faults, rateLimit, startSimulator, text, type Simulator } from "./index.ts";
import type { Json, JsonObject } from "./json.ts";
import { chat, clientHeaders, dig, eventsOf, messages, openAIResult, payloads, post } from "./testing.ts";
import { withSimulator } from "../support/simulator.ts";

let simulator: Simulator;
withSimulator((given) => (simulator = given));

const BASH = {
  type: "function",
  function: { name: "bash", parameters: { type: "object", properties: { command: { type: "string" } } } },
};

describe("simulator: authentication", () => {
  test("missing and unknown credentials → the service's 401", async () => {
    for (const authorization of [undefined, "Bearer wrong", "Basic abc"]) {
      const headers = { ...clientHeaders(simulator), ...(authorization ? { authorization } : {}) };
      if (authorization === undefined) delete headers["authorization"];
      const response = await chat(simulator, {}, { headers });
      assert.equal(response.status, 401);
      assert.deepEqual(await response.json(), {
        error: {
          message:
            "The API Key appears to be invalid or may have expired. Please verify your credentials and try again.",
          type: "invalid_authentication_error",
        },
      });
      assert.notEqual(response.headers.get("x-trace-id"), null);
    }
  });

  test("bearer, x-api-key and both → accepted", async () => {
    const { authorization, ...rest } = clientHeaders(simulator);
    const key = { "x-api-key": simulator.apiKey };
    for (const headers of [
      { ...rest, authorization },
      { ...rest, ...key },
      { ...rest, authorization, ...key },
    ]) {
      assert.equal((await messages(simulator, {}, { headers: headers as Record<string, string> })).status, 200);
    }
    assert.deepEqual(
      simulator.requests.map((one) => one.auth),
      ["bearer", "x-api-key", "both"],
    );
  });

  test("tokens → added and removed at run time", async () => {
    simulator.credentials.add("token-2");
    const headers = { ...clientHeaders(simulator), authorization: "Bearer token-2" };
    assert.equal((await chat(simulator, {}, { headers })).status, 200);
    simulator.credentials.delete("token-2");
    assert.equal((await chat(simulator, {}, { headers })).status, 401);
  });

  test("identity gate → guards generation, not the model list", async () => {
    const stranger = { ...clientHeaders(simulator), "user-agent": "node" };
    const refused = await chat(simulator, {}, { headers: stranger });
    assert.equal(refused.status, 403);
    assert.match(await refused.text(), /only available for Coding Agents.*access_terminated_error/);
    assert.equal((await fetch(`${simulator.baseUrl}/v1/models`, { headers: stranger })).status, 200);
    for (const agent of ["pi/1.5 (x)", "pi (linux 6; x64)", "KimiCLI/1.44.0", "kimi-code-cli/2.1.0"]) {
      const headers = { ...clientHeaders(simulator), "user-agent": agent };
      assert.equal((await chat(simulator, {}, { headers })).status, 200, agent);
    }
    const platform = { ...stranger, "x-msh-platform": "kimi_cli" };
    assert.equal((await messages(simulator, {}, { headers: platform })).status, 200);
    simulator.settings.identityGate = "off";
    assert.equal((await chat(simulator, {}, { headers: stranger })).status, 200);
  });

  test("simulator: unknown paths, methods and bodies that are not JSON → refused", async () => {
    assert.equal((await post(simulator, "/v1/v1/messages", {})).status, 404);
    assert.equal((await fetch(`${simulator.baseUrl}/v1/models`, { method: "POST" })).status, 405);
    assert.equal((await post(simulator, "/v1/chat/completions", "{oops")).status, 400);
    simulator.settings.maxBodyBytes = 100;
    assert.equal((await chat(simulator, { metadata: "x".repeat(200) })).status, 413);
  });
});

describe("simulator: model list", () => {
  test("default and replaced models → listed", async () => {
    const list = async (): Promise<Json> =>
      (await (await fetch(`${simulator.baseUrl}/v1/models`, { headers: clientHeaders(simulator) })).json()) as Json;
    assert.equal(dig(await list(), "data", 0, "id"), "kimi-for-coding");
    simulator.catalog.models = [{ id: "" }, 7, { id: "k9", context_length: "many" }];
    assert.deepEqual(dig(await list(), "data"), [{ id: "" }, 7, { id: "k9", context_length: "many" }]);
    simulator.intercept("models", { status: 401, body: { error: { message: "no" } } }, { delayMs: 50 });
    const status = async (): Promise<number> =>
      (await fetch(`${simulator.baseUrl}/v1/models`, { headers: clientHeaders(simulator) })).status;
    assert.equal(await status(), 401);
    const start = performance.now();
    assert.equal(await status(), 200);
    assert.ok(performance.now() - start >= 45);
  });
});

describe("simulator: built-in agent", () => {
  const turn = (...list: JsonObject[]): JsonObject => ({ messages: list, tools: [BASH] });

  test("a prompt → bash is called once, then the output is quoted", async () => {
    const first = payloads(await eventsOf(await chat(simulator, turn({ role: "user", content: "please run: ls -l" }))));
    const parts = first.map((one) => dig(one, "choices", 0, "delta", "tool_calls", 0));
    const args = parts.map((one) => dig(one, "function", "arguments") ?? "").join("");
    assert.deepEqual(JSON.parse(args), { command: "ls -l" });
    const answer = openAIResult(
      await eventsOf(
        await chat(
          simulator,
          turn(
            { role: "user", content: "please run: ls -l" },
            {
              role: "assistant",
              reasoning_content: "A command will answer this.",
              tool_calls: [{ id: "bash:0", type: "function", function: { name: "bash", arguments: args } }],
            },
            { role: "tool", tool_call_id: "bash:0", content: "total 0" },
          ),
        ),
      ),
    );
    assert.match(answer.text, /total 0/);
    assert.notEqual(answer.thinking, "");
    assert.equal(answer.finish, "stop");
  });

  test("response_format → the answer is JSON that follows the schema", async () => {
    const answered = async (response_format: JsonObject): Promise<unknown> =>
      JSON.parse(openAIResult(await eventsOf(await chat(simulator, { response_format }))).text);
    const schema = {
      type: "object",
      properties: {
        name: { type: "string" },
        born: { type: "integer", minimum: 1700 },
        kind: { enum: ["poet", "composer"] },
        works: { type: "array", items: { $ref: "#/$defs/work" }, minItems: 1 },
        teacher: { anyOf: [{ $ref: "#" }, { type: "null" }] },
        note: { type: "string" },
        code: { type: "string", minLength: 2, maxLength: 3 },
        essay: { type: "string", minLength: 500 },
      },
      required: ["name", "born", "kind", "works", "teacher", "code", "essay"],
      $defs: { work: { type: "object", properties: { isLong: { type: "boolean" } }, required: ["isLong"] } },
    };
    const { name, code, essay, ...rest } = (await answered({
      type: "json_schema",
      json_schema: { name: "x", schema },
    })) as JsonObject;
    assert.match(String(name), /^You said: /);
    assert.equal(code, "You");
    assert.equal(String(essay).length, 500);
    assert.deepEqual(rest, { born: 1700, kind: "poet", works: [{ isLong: true }], teacher: null });
    assert.deepEqual(await answered({ type: "json_object" }), {});
  });

  test("thinking default → on in the OpenAI dialect only", async () => {
    assert.notEqual(openAIResult(await eventsOf(await chat(simulator))).thinking, "");
    assert.doesNotMatch(await (await messages(simulator)).text(), /thinking/);
    assert.match(await (await messages(simulator, { thinking: { type: "enabled" } })).text(), /thinking_delta/);
    simulator.catalog.models = [{ id: "kimi-for-coding", context_length: 1000, supports_thinking_type: "both" }];
    const off = await chat(simulator, { thinking: { type: "disabled" } });
    assert.equal(openAIResult(await eventsOf(off)).thinking, "");
  });

  test("small output limit → reasoning without an answer", async () => {
    const result = openAIResult(await eventsOf(await chat(simulator, { max_completion_tokens: 3 })));
    assert.deepEqual([result.text, result.finish], ["", "length"]);
    assert.notEqual(result.thinking, "");
  });
});

describe("simulator: prompt cache", () => {
  const long = "The quick brown fox jumps over the lazy dog. ".repeat(200);
  const usage = async (change: JsonObject): Promise<{ prompt: number; cached: number }> => {
    await (await chat(simulator, change)).text();
    const seen = simulator.requests.at(-1)?.usage;
    assert.ok(seen);
    return seen;
  };

  test("identical prompt → a full hit; extended one → 256-token blocks", async () => {
    const first = [
      { role: "system", content: long },
      { role: "user", content: "one" },
    ];
    const cold = await usage({ messages: first });
    assert.equal(cold.cached, 0);
    const again = await usage({ messages: first, temperature: 1, prompt_cache_key: "x" });
    assert.equal(again.cached, again.prompt);
    const extended = await usage({ messages: [...first, { role: "user", content: "two" }] });
    assert.ok(extended.cached > 0 && extended.cached < extended.prompt);
    assert.equal(extended.cached % 256, 0);
    assert.equal(extended.cached, Math.floor(cold.prompt / 256) * 256);
    assert.equal((await usage({ messages: [{ role: "user", content: "short" }] })).cached, 0);
    const grown = [
      { role: "user", content: "short" },
      { role: "user", content: "er" },
    ];
    assert.equal((await usage({ messages: grown })).cached, 0);
  });

  test("system prompt, tools or model changed → a full miss", async () => {
    const list = [
      { role: "system", content: long },
      { role: "user", content: long },
    ];
    await usage({ messages: list });
    assert.equal((await usage({ messages: list, tools: [BASH] })).cached, 0);
    assert.equal((await usage({ messages: list, model: "k3" })).cached, 0);
    const changed = [
      { role: "system", content: `${long}.` },
      { role: "user", content: long },
    ];
    assert.equal((await usage({ messages: changed })).cached, 0);
  });

  test("dialects → share it; entries → expire", async () => {
    await usage({
      messages: [
        { role: "system", content: long },
        { role: "user", content: "one" },
      ],
    });
    await (await messages(simulator, { system: long, messages: [{ role: "user", content: "one" }] })).text();
    const shared = simulator.requests.at(-1)?.usage;
    assert.equal(shared?.cached, shared?.prompt);
    simulator.settings.promptCacheTtlMs = 0;
    const other = [
      { role: "system", content: "b" },
      { role: "user", content: "one" },
    ];
    await usage({ messages: other });
    assert.equal((await usage({ messages: other })).cached, 0);
  });

  test("simulator: prompt beyond the window → overflow error", async () => {
    simulator.catalog.models = [{ id: "kimi-for-coding", context_length: 100 }];
    const response = await chat(simulator, { messages: [{ role: "user", content: long }] });
    assert.equal(response.status, 400);
    assert.match(await response.text(), /Your request exceeded model token limit: 100 \(requested: \d+\)/);
  });
});

describe("simulator: choosing the answer", () => {
  test("queue, marker, default, agent → in this order; a refused request takes none", async () => {
    const marked = { messages: [{ role: "user", content: "[[scenario:A1]] please" }] };
    simulator.setDefault({ name: "fallback", steps: [text("fallback")] });
    simulator.enqueue({ name: "queued", steps: [text("queued")] });
    assert.equal((await chat(simulator, { messages: [] })).status, 400);
    for (const body of [marked, marked, {}]) await (await chat(simulator, body)).text();
    simulator.setDefault(undefined);
    await (await chat(simulator)).text();
    assert.deepEqual(
      simulator.requests.map((one) => one.scenario),
      [undefined, "queued", "A1", "fallback", "agent-text"],
    );
  });

  test("marker → only in the last user message, and must name a scenario", async () => {
    const content = "[[scenario:rate-limit:8]]";
    const limited = await chat(simulator, { messages: [{ role: "user", content }] });
    assert.deepEqual([limited.status, limited.headers.get("retry-after")], [429, "8"]);
    const history = [
      { role: "user", content },
      { role: "assistant", content: "done" },
      { role: "user", content: "next" },
    ];
    assert.equal((await chat(simulator, { messages: history })).status, 200);
    const reminded = [
      { role: "user", content },
      { role: "user", content: "<system-reminder>" },
    ];
    assert.equal((await chat(simulator, { messages: reminded })).status, 429);
    const unknown = await chat(simulator, { messages: [{ role: "user", content: "[[scenario:Z9]]" }] });
    assert.equal(unknown.status, 400);
  });

  test("simulator: every named fault → an error answer with a message or a page", async () => {
    for (const [name, fault] of Object.entries({ ...faults, limited: rateLimit("0") })) {
      simulator.enqueue(fault);
      const response = await chat(simulator);
      assert.equal(response.status, fault.http?.status, name);
      assert.match(await response.text(), /"message":"|<title>/, name);
    }
  });

  test("simulator: delays and hangs → a client that gives up is logged as aborted", async () => {
    simulator.enqueue({ headersDelayMs: 80, steps: [text("late")] });
    const start = performance.now();
    await (await chat(simulator)).text();
    assert.ok(performance.now() - start >= 75);

    for (const hang of ["connect", "headers"] as const) {
      simulator.enqueue({ hang });
      const givesUp = new AbortController();
      const last = simulator.requests.at(-1)?.id ?? 0;
      const asked = chat(simulator, {}, { signal: givesUp.signal });
      const { id } = await simulator.waitForRequest((one) => one.id > last);
      givesUp.abort();
      await assert.rejects(asked, /abort/i);
      await simulator.waitForRequest((one) => one.id === id && one.aborted);
    }
    simulator.enqueue({ steps: [text("first")], hang: "body" });
    const givesUp = new AbortController();
    const response = await chat(simulator, {}, { signal: givesUp.signal });
    assert.equal(response.status, 200);
    givesUp.abort();
    await assert.rejects(response.text(), /abort/i);
    const record = await simulator.waitForRequest((one) => one.id === simulator.requests.at(-1)?.id && one.aborted);
    assert.equal(record.ended, "aborted");
    assert.ok(simulator.requests.slice(1).every((one) => one.aborted));
  });

  test("simulator: request log → headers as sent, body, connection and answer", async () => {
    const waiting = simulator.waitForRequest((one) => one.ended !== undefined);
    await (await chat(simulator, {}, { headers: { ...clientHeaders(simulator), "X-Custom-Name": "v" } })).text();
    const record = await waiting;
    assert.equal(record, simulator.requests[0]);
    assert.equal(record.endpoint, "chat");
    assert.equal(record.headers["x-custom-name"], "v");
    assert.ok(record.headerOrder.some((name) => name.toLowerCase() === "x-custom-name"));
    assert.equal(dig(record.json, "messages", 0, "content"), "hi");
    assert.equal(record.rawBody.length, Number(record.headers["content-length"]));
    assert.deepEqual(
      [record.status, record.ended, record.aborted, record.model],
      [200, "complete", false, "kimi-for-coding"],
    );
    assert.ok(record.sentEvents > 3 && record.sentBytes > 500);
    await messages(simulator, {}, { headers: clientHeaders(simulator) });
    await (await fetch(`${simulator.baseUrl}/v1/messages?beta=true`, { method: "POST" })).text();
    assert.deepEqual(simulator.requests.map((one) => [one.endpoint, one.query, one.status]).at(-1), [
      "messages",
      "?beta=true",
      401,
    ]);
    await assert.rejects(
      simulator.waitForRequest(() => false, 20),
      /no such request within 20 ms/,
    );
  });

  test("simulator: request from before a reset → neither logged nor reported to waiters", async () => {
    simulator.enqueue({ steps: [text("first")], hang: "body" });
    const stop = new AbortController();
    const before = await chat(simulator, {}, { signal: stop.signal });
    const [old] = simulator.requests;
    simulator.reset();
    const waiting = simulator.waitForRequest(() => true);
    stop.abort();
    await assert.rejects(before.text(), /abort/i);
    const ended = (): boolean => old?.ended !== undefined;
    while (!ended()) await sleep(5);
    await (await chat(simulator)).text();
    assert.equal((await waiting).id, simulator.requests[0]?.id);
    assert.equal(simulator.requests.length, 1);
  });

  test("simulator: request from before a reset → does not take a queued scenario", async () => {
    const body = JSON.stringify({ model: "k3", stream: true, messages: [{ role: "user", content: "old" }] });
    // The service confirms that it has read the head.
    const headers = { ...clientHeaders(simulator), expect: "100-continue", "content-length": Buffer.byteLength(body) };
    const slow = request(`${simulator.baseUrl}/v1/chat/completions`, { method: "POST", headers });
    slow.flushHeaders();
    await once(slow, "continue");
    simulator.reset();
    simulator.enqueue({ steps: [text("for the new one")] });
    simulator.intercept("chat", { delayMs: 1 });
    slow.end(body);
    const [old] = (await once(slow, "response")) as [IncomingMessage];
    assert.doesNotMatch(await streamText(old), /for the new one/);
    assert.deepEqual(simulator.requests, []);
    assert.equal(openAIResult(await eventsOf(await chat(simulator))).text, "for the new one");
  });

  test("simulator: closed connections → logged once all clients are gone", async () => {
    const own = await startSimulator();
    const { hostname, port } = new URL(own.origin);
    const socket = connect(Number(port), hostname);
    socket.end("GET /coding/v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").resume();
    await once(socket, "connect");
    await own.quiet();
    assert.deepEqual(
      own.requests.map(({ path, ended }) => [path, ended]),
      [["/coding/v1/models", "complete"]],
    );
    await own.close();
  });
});

describe("simulator as a process", () => {
  const start = async (...args: string[]): Promise<{ line: string; child: ReturnType<typeof spawn> }> => {
    const main = fileURLToPath(new URL("./main.ts", import.meta.url));
    const child = spawn(process.execPath, [main, ...args], { stdio: ["ignore", "pipe", "inherit"] });
    const [line] = (await once(child.stdout as NodeJS.ReadableStream, "data")) as [Buffer];
    return { line: line.toString(), child };
  };

  test("start, admin endpoint, SIGTERM → environment printed, obeyed, ends", async () => {
    const { line, child } = await start("--port", "0");
    const env = Object.fromEntries(
      line
        .trim()
        .split(" ")
        .map((pair) => pair.split("=", 2) as [string, string]),
    );
    const origin = env["KIMI_CODE_OAUTH_HOST"] ?? "";
    const admin = async (path: string, body?: unknown): Promise<[number, Json]> => {
      const init = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
      const response = await fetch(`${origin}/__admin/${path}`, init);
      return [response.status, (await response.json()) as Json];
    };
    assert.deepEqual(await admin("health"), [200, { ok: true }]);
    assert.deepEqual(await admin("enqueue", [{ name: "one", steps: [{ text: "from outside" }] }]), [
      200,
      { queued: 1 },
    ]);
    assert.equal((await admin("enqueue", { stepz: [] }))[0], 400);
    assert.equal((await admin("enqueue", { steps: [{ shout: "x" }] }))[0], 400);
    assert.equal((await admin("nothing"))[0], 404);
    assert.equal((await admin("default", { steps: [{ text: "default" }] }))[0], 200);
    assert.equal((await admin("settings", { identityGate: "off" }))[0], 200);
    assert.equal((await admin("settings", { nonsense: 1 }))[0], 400);
    assert.equal((await admin("intercept", { endpoint: "chat", answers: [{ status: 503, body: "busy" }] }))[0], 200);
    const ask = (): Promise<Response> =>
      fetch(`${env["KIMI_CODE_BASE_URL"]}/v1/chat/completions`, {
        method: "POST",
        headers: { authorization: `Bearer ${env["KIMI_API_KEY"]}` },
        body: JSON.stringify({ model: "k3", stream: true, messages: [{ role: "user", content: "hi" }] }),
      });
    assert.equal((await ask()).status, 503);
    assert.equal(openAIResult(await eventsOf(await ask())).text, "from outside");
    assert.equal(openAIResult(await eventsOf(await ask())).text, "default");
    const [, log] = await admin("requests");
    assert.deepEqual(
      (log as JsonObject[]).map((one) => one["scenario"]),
      ["interception", "one", "unnamed"],
    );
    assert.equal(dig(log, 1, "json", "model"), "k3");
    assert.equal((await admin("reset", {}))[0], 200);
    assert.deepEqual(await admin("requests"), [200, []]);
    child.kill("SIGTERM");
    assert.deepEqual(await once(child, "exit"), [0, null]);
  });

  test("simulator: listens on loopback only", async () => {
    await assert.rejects(startSimulator({ host: "0.0.0.0" }), /loopback/);
    const main = fileURLToPath(new URL("./main.ts", import.meta.url));
    const child = spawn(process.execPath, [main, "--host", "0.0.0.0"], { stdio: "ignore" });
    assert.deepEqual(await once(child, "exit"), [2, null]);
  });

  test("simulator: close → open connections are destroyed", async () => {
    const own = await startSimulator();
    own.enqueue({ steps: [text("x")], hang: "body" });
    const response = await chat(own);
    const body = response.text();
    body.catch(() => undefined);
    await own.close();
    await assert.rejects(body);
  });
});
