/** Record and replay: what a session received is written without credentials, and served again byte for byte. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { startReplay } from "../../extension/replay.ts";
import type { Simulator } from "../simulator/index.ts";
import { transcripts } from "../simulator/index.ts";
import { type Machine, type NodeTurn, withMachine } from "../support/account.ts";
import { command } from "../support/doctor.ts";
import { ROOT } from "../support/pi.ts";

let simulator: Simulator;
let machine: Machine;
withMachine((...given) => ([simulator, machine] = given), { identityGate: "off" });

const recording = (): string => join(machine.path, "recording");

/** One turn that is recorded. */
function recorded(env: Record<string, string> = {}): Promise<NodeTurn> {
  return machine.nodeTurn({ key: simulator.apiKey, env: { KIMI_CODE_RECORD: recording(), ...env } });
}

/** Folders of the recorded chats, in order. */
const chats = (): string[] =>
  readdirSync(recording())
    .filter((name) => name.includes("chat"))
    .toSorted()
    .map((name) => join(recording(), name));

const everything = (): string =>
  readdirSync(recording(), { recursive: true, encoding: "utf8" })
    .map((name) => join(recording(), name))
    .filter((path) => statSync(path).isFile())
    .map((path) => readFileSync(path, "latin1"))
    .join("\n");

test("recording: without the variable → nothing is written", async () => {
  await machine.nodeTurn({ key: simulator.apiKey });
  assert.equal(existsSync(recording()), false);
});

test("recording: a turn → request and answer byte for byte, with times, without the key", async () => {
  simulator.enqueue({ ...transcripts.A2, chunkBytes: 50 });
  const turn = await recorded();
  assert.equal(turn.error, undefined);
  const [folder = ""] = chats();
  const sent = simulator.requests.find(({ endpoint }) => endpoint === "chat");
  assert.deepEqual(readFileSync(join(folder, "request.body")), sent?.rawBody);
  const text = transcripts.A2.steps?.map((step) => ("raw" in step ? step.raw : "")).join("");
  assert.equal(readFileSync(join(folder, "response.body"), "utf8"), text);
  const times = readFileSync(join(folder, "response.timing"), "utf8").trim().split("\n");
  const sizes = times.map((line) => Number(line.split(" ")[1]));
  assert.equal(
    sizes.reduce((a, b) => a + b),
    Buffer.byteLength(text ?? ""),
  );
  assert.ok(!everything().includes(simulator.apiKey));
  if (process.platform !== "win32") assert.equal(statSync(join(folder, "request.body")).mode & 0o777, 0o600);
});

test("recording: filler → same length, no text of the conversation, and the answer is still an answer", async () => {
  simulator.enqueue({ steps: [{ thinking: "privately" }, { text: "A confidential answer, 42." }] });
  await recorded({ KIMI_CODE_RECORD_TEXT: "filler" });
  const sent = simulator.requests.find(({ endpoint }) => endpoint === "chat");
  const [folder = ""] = chats();
  const body = readFileSync(join(folder, "request.body"), "utf8");
  assert.equal(Buffer.byteLength(body), sent?.rawBody.length);
  assert.equal((JSON.parse(body) as { model: string }).model, "kimi-for-coding");
  assert.doesNotMatch(everything(), /confidential|privately/);
  const replay = await startReplay(recording(), { atOnce: true });
  const again = await machine.nodeTurn({ key: "any", env: { KIMI_CODE_BASE_URL: replay.url } });
  assert.equal(again.text, "x xxxxxxxxxxxx xxxxxx, xx.");
  await replay.close();
});

test("recording: a service that quotes the key in every form → none of them is written", async () => {
  const key = "sk-kimi-quoted-secret-0123456789";
  const forms = [key, encodeURIComponent(`Bearer ${key}`), Buffer.from(key).toString("utf8").toUpperCase()];
  simulator.intercept("chat", {
    status: 400,
    headers: { "x-trace-id": key, "x-echo": key },
    body: { error: { message: `refused: ${forms.join(" ")}`, type: "invalid_request_error" } },
  });
  await machine.nodeTurn({ key, env: { KIMI_CODE_RECORD: recording() } });
  assert.equal(chats().length, 1);
  assert.doesNotMatch(everything(), /quoted.secret/i);
});

test("recording: a folder that cannot be written → the turn is not disturbed", async () => {
  writeFileSync(join(machine.path, "file"), "");
  const turn = await recorded({ KIMI_CODE_RECORD: join(machine.path, "file", "below") });
  assert.deepEqual([turn.text, turn.error], ["ok", undefined]);
});

test("replay: an error and its retry → the same error, the same answer, in order", async () => {
  simulator.intercept("chat", {
    status: 503,
    headers: { "retry-after-ms": "5" },
    body: { error: { message: "down" } },
  });
  simulator.enqueue({ steps: [{ text: "after the retry" }] });
  assert.equal((await recorded()).text, "after the retry");
  assert.equal(chats().length, 2);
  const replay = await startReplay(recording());
  const requests = simulator.requests.length;
  const again = await machine.nodeTurn({ key: "any", env: { KIMI_CODE_BASE_URL: replay.url } });
  assert.deepEqual([again.text, again.error], ["after the retry", undefined]);
  assert.equal(simulator.requests.length, requests, "the service is not asked");
  await replay.close();
});

test("replay: a stream that broke → breaks at the same byte", async () => {
  simulator.enqueue({ steps: [{ text: "half of it" }, { cut: "reset" }] });
  const first = await recorded({ KIMI_LOOP_MAX_ATTEMPTS_PER_STEP: "1" });
  assert.notEqual(first.error, undefined);
  const [folder = ""] = chats();
  const replay = await startReplay(recording(), { atOnce: true });
  const response = await fetch(`${replay.url}/v1/chat/completions`, { method: "POST", body: "{}" });
  const parts: Uint8Array[] = [];
  const reading = (async () => {
    for await (const part of response.body ?? []) parts.push(part as Uint8Array);
  })();
  await assert.rejects(reading);
  assert.deepEqual(Buffer.concat(parts), readFileSync(join(folder, "response.body")));
  await replay.close();
});

test("replay: original speed → no byte comes before its time", async () => {
  simulator.enqueue({ steps: [{ text: "one" }, { pauseMs: 600 }, { text: "two" }] });
  await recorded();
  const replay = await startReplay(recording());
  const started = performance.now();
  const response = await fetch(`${replay.url}/v1/chat/completions`, { method: "POST", body: "{}" });
  await response.text();
  assert.ok(performance.now() - started >= 600);
  await replay.close();
});

test("replay: a request that was not recorded → 404 that says so", async () => {
  await recorded();
  const replay = await startReplay(recording());
  const response = await fetch(`${replay.url}/v1/unheard-of`);
  assert.deepEqual([response.status, (await response.text()).includes("not_recorded")], [404, true]);
  await replay.close();
});

test("command: replay → the variable comes first; ends with a signal", async () => {
  simulator.enqueue({ steps: [{ text: "recorded" }] });
  await recorded();
  const program = join(ROOT, "extension", "cli.ts");
  const child = spawn(process.execPath, [program, "replay", recording(), "--port", "0", "--at-once"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const line = await new Promise<string>((resolve) => child.stdout.setEncoding("utf8").once("data", resolve));
  const [, url = ""] = /^KIMI_CODE_BASE_URL=(http:\/\/127\.0\.0\.1:\d+\/coding)\n/.exec(line) ?? [];
  const again = await machine.nodeTurn({ key: "any", env: { KIMI_CODE_BASE_URL: url } });
  assert.equal(again.text, "recorded");
  const ended = new Promise((resolve) => child.once("exit", (code) => resolve(code)));
  child.kill("SIGTERM");
  assert.equal(await ended, process.platform === "win32" ? null : 0);
});

test("command: bad folder, bad port, no folder → a message and code 2", async () => {
  mkdirSync(recording());
  for (const args of [
    ["replay", recording()],
    ["replay", join(machine.path, "none")],
    ["replay", recording(), "--port", "x"],
    ["replay"],
  ]) {
    const { code, stdout, stderr } = await command(machine, args, {});
    assert.deepEqual([code, stdout], [2, ""]);
    assert.match(stderr, /\S/);
  }
});
