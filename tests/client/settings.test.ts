/** What a client makes of settings files, variables and its own options, and how it reports what is wrong with them. */
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { type ChatOptions, Kimi, type KimiOptions, type LogEvent } from "../../index.ts";
import type { Simulator } from "../simulator/index.ts";
import { withClientHome } from "../support/client-home.ts";
import { failure } from "../support/failure.ts";
import { bodyOf } from "../support/pi.ts";
import { answerRequests } from "../support/simulator.ts";

let simulator: Simulator;
const home = withClientHome((started) => (simulator = started));
const settingsFile = join(home.home, ".pi", "pi-provider-kimi-code.json");
beforeEach(() => mkdirSync(join(home.home, ".pi"), { recursive: true }));
afterEach(() => {
  rmSync(settingsFile, { force: true });
  for (const name of ["KIMI_CODE_SETTINGS", "KIMI_CODE_GAP_TIMEOUT_MS"]) delete process.env[name];
});

const client = (options: KimiOptions = {}): Kimi =>
  new Kimi({ baseUrl: simulator.baseUrl, apiKey: simulator.apiKey, ...options });

/** The body of the last request. */
const sent = (): Record<string, unknown> => bodyOf(answerRequests(simulator).at(-1));

/** The notes of one chat. */
async function notesOf(kimi: Kimi, options: ChatOptions = {}): Promise<string[]> {
  const notes: string[] = [];
  for await (const event of kimi.chat("hi", options)) if (event.type === "note") notes.push(event.message);
  return notes;
}

describe("KIMI_CODE_SETTINGS", () => {
  test("beside options → both apply, and the options win", async () => {
    process.env["KIMI_CODE_SETTINGS"] = '{"retry":{"attempts":1},"model":{"temperature":1,"topP":0.5}}';
    const kimi = client({ settings: { model: { topP: 0.95 } } });
    await kimi.chat("hi").final();
    const { temperature, top_p } = sent();
    assert.deepEqual([temperature, top_p], [1, 0.95]);
    simulator.intercept("chat", { status: 503, body: "busy" });
    assert.equal((await failure(kimi.chat("hi").final())).code, "server");
    assert.equal(answerRequests(simulator).length, 2, "the one attempt of the variable");
  });

  test("of the option env → in place of the process's", async () => {
    process.env["KIMI_CODE_SETTINGS"] = '{"model":{"topP":0.5}}';
    await client({ env: { KIMI_CODE_SETTINGS: '{"model":{"topP":0.95}}' } })
      .chat("hi")
      .final();
    assert.equal(sent()["top_p"], 0.95);
  });

  test("no JSON beside options → a note, and the options apply", async () => {
    process.env["KIMI_CODE_SETTINGS"] = "{ nope";
    const notes = await notesOf(client({ settings: { model: { topP: 0.95 } } }));
    assert.match(notes.join("\n"), /^Kimi settings: KIMI_CODE_SETTINGS: is not JSON: /);
    assert.equal(sent()["top_p"], 0.95);
  });

  test("no JSON that names an address → no request goes elsewhere, unless the options name one", async () => {
    process.env["KIMI_CODE_SETTINGS"] = "{ baseUrl: https://gateway.invalid }";
    const { apiKey } = simulator;
    const error = await failure(new Kimi({ apiKey, settings: { statusLine: false } }).chat("hi").final());
    assert.equal(error.code, "config");
    assert.match(error.message, /^KIMI_CODE_SETTINGS: is not JSON/);
    await client().chat("hi").final();
    assert.equal(answerRequests(simulator).length, 1);
  });

  test("options that name an unusable address → config, by that name", async () => {
    const error = await failure(client({ baseUrl: "nope" }).chat("hi").final());
    assert.equal(error.code, "config");
    assert.match(error.message, /^the options of the program: the Kimi base URL /);
  });
});

describe("invalid settings", () => {
  test("variables and a file → one note each in the first chat of a client, none later", async () => {
    writeFileSync(settingsFile, '{"bogus":1,"retry":{"attempts":0}}');
    const env = { KIMI_CODE_PROTOCOL: "grpc" };
    process.env["KIMI_CODE_GAP_TIMEOUT_MS"] = "abc";
    for (const kimi of [client({ env }), client({ env })]) {
      const notes = await notesOf(kimi);
      assert.equal(notes.length, 4, notes.join("\n"));
      for (const name of ["KIMI_CODE_GAP_TIMEOUT_MS", "KIMI_CODE_PROTOCOL", "bogus", "retry.attempts"]) {
        assert.equal(notes.filter((note) => note.startsWith("Kimi settings: ") && note.includes(name)).length, 1, name);
      }
      assert.deepEqual(await notesOf(kimi), []);
    }
  });

  test("a variable that changes → only what is new is reported", async () => {
    writeFileSync(settingsFile, "{ nope");
    const kimi = client();
    assert.match((await notesOf(kimi)).join("\n"), /^Kimi settings: .*pi-provider-kimi-code\.json: is not JSON[^\n]*$/);
    process.env["KIMI_CODE_GAP_TIMEOUT_MS"] = "soon";
    assert.match(
      (await notesOf(kimi)).join("\n"),
      /^Kimi settings: environment variable KIMI_CODE_GAP_TIMEOUT_MS[^\n]*$/,
    );
  });

  test("logger and debug log → have them too", async () => {
    process.env["KIMI_CODE_GAP_TIMEOUT_MS"] = "in the log";
    const events: LogEvent[] = [];
    await client({ env: { KIMI_CODE_DEBUG: "1" }, logger: (event) => void events.push(event) })
      .chat("hi")
      .final();
    const notice = events.find((event) => event.type === "chat_notice");
    assert.match(JSON.stringify(notice), /KIMI_CODE_GAP_TIMEOUT_MS/);
    const log = readFileSync(join(home.home, ".pi", "pi-provider-kimi-code", "debug.log"), "utf8");
    assert.match(log, /invalid setting.*in the log/);
  });
});

describe("thinking off", () => {
  test("a model that always thinks, and one that is not listed → a note in every chat", async () => {
    const kimi = client();
    await kimi.models();
    for (const [model, reason] of [
      ["kimi-for-coding", "Kimi always thinks with this model"],
      ["unheard-of", "Kimi does not list this model"],
    ] as const) {
      for (let chat = 0; chat < 2; chat += 1) {
        const notes = await notesOf(kimi, { model, thinking: "off" });
        assert.deepEqual(notes, [`${reason}; the thinking level off was left out.`]);
      }
      assert.deepEqual(await notesOf(kimi, { model, thinking: "high" }), []);
    }
  });

  test("a model that can do without → off is sent, without a note", async () => {
    const settled = { id: "settled", display_name: "S", context_length: 262_144, supports_thinking_type: "both" };
    simulator.catalog.models = [settled];
    const kimi = client();
    await kimi.models();
    assert.deepEqual(await notesOf(kimi, { model: "settled", thinking: "off" }), []);
    assert.deepEqual(sent()["thinking"], { type: "disabled" });
  });
});
