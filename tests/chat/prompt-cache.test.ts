/** What the addon finds out about the prompt cache, against the simulator's cache (docs/caching.md#what-is-recorded). */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "node:test";
import { type ChatEvent, type ChatMessage, type ChatRequest, Kimi } from "../../index.ts";
import type { PromptCacheReport } from "../../extension/messages.ts";
import type { Scenario, Simulator } from "../simulator/index.ts";
import { withMachine } from "../support/account.ts";
import { addon, DIALECTS } from "../support/turn.ts";
import { type Home } from "../support/pi.ts";

const CHUNK = 256;

let simulator: Simulator;
let home: Home;

withMachine((...given) => ([simulator, home] = given), { identityGate: "off" });

const env = (): Record<string, string> => ({ HOME: home.home, PI_CODING_AGENT_DIR: home.agent });

const client = (settings: Record<string, unknown>): Kimi => {
  const { baseUrl, apiKey } = simulator;
  return new Kimi({ baseUrl, apiKey, env: env(), settings });
};

async function reported(session: string): Promise<PromptCacheReport> {
  const request = JSON.stringify({ environment: env(), host: {} });
  return JSON.parse(await addon().promptCache(request, JSON.stringify({ session }))) as PromptCacheReport;
}

const say = (content: string): ChatMessage => ({ role: "user", content });
const reply: ChatMessage = { role: "assistant", content: "ok" };
const long = (name: string): string =>
  `The file ${name} has this line and ${name.length} more of its kind. `.repeat(60);
const tool = (name: string) => ({ name, description: `Reads ${name}.`, parameters: { type: "object" } });

async function notes(kimi: Kimi, request: ChatRequest): Promise<(ChatEvent & { type: "note" })[]> {
  const found: (ChatEvent & { type: "note" })[] = [];
  for await (const event of kimi.chat(request)) if (event.type === "note") found.push(event);
  return found;
}

for (const protocol of DIALECTS) {
  test(`prompt cache, ${protocol}: a session that grows, then gets a tool → one note that names the tool`, async () => {
    const kimi = client({ protocol, cache: { noticeTokens: 1000 } });
    const sessionId = `grows-${protocol}`;
    const base = { sessionId, system: long("rules"), tools: [tool("read"), tool("edit")] };
    const messages: ChatMessage[] = [];
    for (let n = 0; n < 4; n += 1) {
      messages.push(say(`${n}: ${long("a.txt")}`));
      assert.deepEqual(await notes(kimi, { ...base, messages }), []);
      messages.push(reply);
    }
    messages.push(say("and now?"));
    const [note, ...more] = await notes(kimi, { ...base, tools: [...base.tools, tool("fetch")], messages });
    assert.deepEqual(more, []);
    assert.match(note?.message ?? "", /^\dk tokens of the prompt were read again: the tool fetch joined/);
    const report = await reported(sessionId);
    assert.deepEqual(note?.cache, report);
    assert.deepEqual(
      report.requests.map(({ verdict }) => verdict),
      ["grew", "grew", "grew", "grew", "changed"],
    );
    assert.deepEqual(report.requests.map(({ segment, cause }) => [segment, cause]).at(-1), [
      "tool 2",
      "the tool fetch joined",
    ]);
    for (const { predicted, cached } of report.requests) {
      assert.ok(Math.abs(predicted - (cached ?? -1)) <= CHUNK, `${predicted} predicted, ${cached} cached`);
    }
    const tokens = report.segments.reduce((sum, segment) => sum + segment.tokens, 0);
    assert.ok(Math.abs(tokens - (report.requests.at(-1)?.prompt ?? 0)) <= report.segments.length);
    assert.deepEqual(
      report.segments.slice(0, 4).map(({ kind, name }) => [kind, name]),
      [
        ["system", null],
        ["tool", "read"],
        ["tool", "edit"],
        ["tool", "fetch"],
      ],
    );
    assert.ok(report.segments.every(({ cached }) => !cached));
    // The same again is told once: nothing was lost this time.
    messages.push(reply, say("more"));
    assert.deepEqual(await notes(kimi, { ...base, tools: [...base.tools, tool("fetch")], messages }), []);
  });
}

test("prompt cache: usage that lies or is missing → verdict unknown, no note", async () => {
  const kimi = client({ cache: { noticeTokens: 1 } });
  const sessionId = "lies";
  const usage = [{ prompt: 500, cached: 900 }, { cached: -5 }, false] as const;
  const scenarios: Scenario[] = usage.map((one) => ({ steps: [{ text: "ok" }, { finish: "stop", usage: one }] }));
  const messages = [say(long("a"))];
  await notes(kimi, { sessionId, messages });
  simulator.enqueue(...scenarios);
  for (const one of usage) {
    messages.push(reply, say(JSON.stringify(one)));
    assert.deepEqual(await notes(kimi, { sessionId, messages }), [], JSON.stringify(one));
  }
  const { requests } = await reported(sessionId);
  const verdicts = requests.map(({ verdict }) => verdict);
  // Without any usage a request does not count, as if it had not been answered.
  assert.deepEqual(verdicts, ["grew", "unknown", "unknown"]);
});

test("prompt cache: a payload hook that rewrites old messages → is named as the cause", async () => {
  const kimi = client({ cache: { noticeTokens: 100 } });
  const messages = [say(long("a")), reply, say("b")];
  await notes(kimi, { sessionId: "hook", messages });
  const onPayload = (payload: unknown): unknown => {
    const body = structuredClone(payload) as { messages: { content: string }[] };
    Object.assign(body.messages[0] ?? {}, { content: `Now. ${body.messages[0]?.content}` });
    return body;
  };
  const [note] = await notes(kimi, { sessionId: "hook", messages: [...messages, reply, say("c")], onPayload });
  assert.match(note?.message ?? "", /a payload hook rewrote the request/);
});

test("prompt cache: what is stored → hashes and numbers, and no session is named", async () => {
  const kimi = client({});
  await notes(kimi, { sessionId: "secret-session", system: "secret-rules", messages: [say("secret-question")] });
  const folder = join(home.home, ".pi", "pi-provider-kimi-code", "prompt-cache");
  // The file is written beside the end of the answer.
  const stored = (): string[] =>
    existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith(".json")) : [];
  while (stored().length === 0) await sleep(20);
  const files = stored();
  assert.equal(files.length, 1);
  const text = readFileSync(join(folder, files[0] ?? ""), "utf8");
  assert.ok(!`${files[0]} ${text}`.includes("secret"));
  const values = (value: unknown): unknown[] =>
    typeof value === "object" && value !== null ? Object.values(value).flatMap(values) : [value];
  assert.deepEqual(
    values(JSON.parse(text)).filter((value) => typeof value !== "number" && value !== null),
    [],
  );
});
