/** Real Pi and a model that repeats its calls: a notice, calls that are not executed, the end of the run. */
import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { JsonObject } from "../simulator/json.ts";
import type { Scenario, Simulator } from "../simulator/index.ts";
import { bodyOf, type Home, type PiEvent, ROOT, runPi } from "../support/pi.ts";
import { Terminal } from "../support/terminal.ts";
import { withPi } from "../support/with-pi.ts";

let simulator: Simulator;
let home: Home;
const open = withPi((...given) => {
  [simulator, home] = given;
  writeFileSync(join(home.cwd, "a.txt"), "The same text.\n");
  writeFileSync(join(home.cwd, "b.txt"), "Another text.\n");
});

const MODEL = ["--no-session", "--model", "kimi-coding/kimi-for-coding"];
const env = (): Record<string, string> => ({ KIMI_CODE_BASE_URL: simulator.baseUrl, KIMI_API_KEY: simulator.apiKey });

/** An answer with calls. Ids differ, as those of the service do. */
let serial = 0;
function calls(...all: [name: string, args: JsonObject][]): Scenario {
  const steps = all.map(([name, args]) => {
    serial += 1;
    return { toolCall: { id: `${name}:${serial}`, name, arguments: args } };
  });
  return { steps };
}
const read = (path: string): [string, JsonObject] => ["read", { path }];
const repeated = (times: number, make: (at: number) => Scenario): Scenario[] =>
  Array.from({ length: times }, (_, at) => make(at));
const END: Scenario = { steps: [{ text: "Done." }] };

async function json(prompt = "go", args: string[] = [], extensions?: string[]): Promise<PiEvent[]> {
  const more = extensions === undefined ? {} : { extensions: [ROOT, ...extensions] };
  const { events, stderr } = await runPi(["--mode", "json", ...MODEL, ...args, prompt], { home, env: env(), ...more });
  assert.doesNotMatch(stderr, /Error/);
  return events;
}

/** Calls that a tool has executed, by Pi's events. */
function executed(events: PiEvent[]): number {
  return events.filter((event) => event.type === "tool_execution_end" && event["isError"] === false).length;
}

interface Entry {
  tool: string;
  streak: number;
  action: string;
}

function entries(events: PiEvent[]): Entry[] {
  const appended = events.filter((event) => event.type === "entry_appended").map((event) => event["entry"]);
  return (appended as { customType?: string; data: Entry }[])
    .filter(({ customType }) => customType === "kimi_loop")
    .map(({ data }) => data);
}

const requests = (): number => simulator.requests.filter(({ endpoint }) => endpoint === "chat").length;

/** Messages of each request as text. */
function transcripts(): string[][] {
  return simulator.requests
    .filter(({ endpoint }) => endpoint === "chat")
    .map((request) => bodyOf<{ messages: unknown[] }>(request).messages.map((message) => JSON.stringify(message)));
}

describe("loop brake", () => {
  test("the same read again and again → notice at 3, not executed from 5 on, ended at 12", async () => {
    simulator.enqueue(...repeated(30, () => calls(read("a.txt"))));
    const events = await json();
    assert.equal(requests(), 12);
    assert.equal(executed(events), 4);
    assert.deepEqual(entries(events), [
      { tool: "read", streak: 3, action: "warn" },
      ...repeated(7, () => END).map((_, at) => ({ tool: "read", streak: 5 + at, action: "block" })),
      { tool: "read", streak: 12, action: "stop" },
    ]);
    const all = transcripts();
    for (const [at, messages] of all.entries()) {
      const before = all[at - 1] ?? [];
      assert.deepEqual(messages.slice(0, before.length), before, "what the model has read stays as it was");
    }
    const told = all[5]?.at(-1) ?? "";
    assert.match(told, /read was called 4 times with the same arguments and returned the same result each time/);
    assert.match(
      told,
      /This call was not executed\. You have its result, from your last executed call, one message before/,
    );
    assert.match(told, /The same text\./);
  });

  test("print mode → the reason on stderr, exit code 1", async () => {
    simulator.enqueue(...repeated(30, () => calls(read("a.txt"))));
    const { code, stdout, stderr } = await runPi(["-p", ...MODEL, "go"], { home, env: env() });
    assert.deepEqual([code, stdout], [1, ""]);
    assert.match(stderr, /^Warning: Kimi repeats itself: read was called 2 times with the same arguments/);
    assert.match(stderr, /Kimi was stopped: read was called 12 times with the same arguments and without a new result/);
    assert.equal(requests(), 12);
  });

  test("two calls in turn → ended within 24 requests", async () => {
    simulator.enqueue(...repeated(40, (at) => calls(read(at % 2 === 0 ? "a.txt" : "b.txt"))));
    const events = await json();
    assert.ok(requests() <= 24, `${requests()}`);
    assert.equal(executed(events), 8);
    assert.equal(entries(events).at(-1)?.action, "stop");
  });

  test("30 polls with another output each → nothing is blocked", async () => {
    simulator.enqueue(...repeated(30, () => calls(["bash", { command: "echo x >> count; wc -l < count" }])), END);
    const events = await json();
    assert.equal(executed(events), 30);
    assert.deepEqual(entries(events), []);
  });

  test("identical siblings of one message → count once", async () => {
    simulator.enqueue(calls(read("a.txt"), read("a.txt"), read("a.txt"), read("a.txt"), read("a.txt")), END);
    const events = await json();
    assert.deepEqual([executed(events), entries(events)], [5, []]);
  });

  test("arguments that Pi refuses, again and again → the run is ended", async () => {
    simulator.enqueue(...repeated(30, () => calls(["read", { file: 7 }])));
    const events = await json();
    assert.equal(requests(), 12);
    assert.deepEqual(
      entries(events).map(({ action }) => action),
      ["warn", "stop"],
    );
  });

  test("another extension blocks the calls → its reason reaches the model, and the run is ended", async () => {
    const guard = join(home.path, "guard.ts");
    const block = `(event) => event.toolName === "bash" ? { block: true, reason: "Not allowed here." } : undefined`;
    writeFileSync(guard, `export default (pi) => pi.on("tool_call", ${block});`);
    simulator.enqueue(...repeated(30, () => calls(["bash", { command: "rm a.txt" }])));
    const events = await json("go", [], [guard]);
    assert.equal(requests(), 12);
    assert.match(transcripts()[1]?.at(-1) ?? "", /Not allowed here/);
    assert.equal(entries(events).at(-1)?.action, "stop");
  });

  test("limits of 0 → never", async () => {
    const settings = JSON.stringify({ loop: { warn: 0, block: 0, stop: 0 } });
    mkdirSync(join(home.home, ".pi"));
    writeFileSync(join(home.home, ".pi", "pi-provider-kimi-code.json"), settings);
    simulator.enqueue(...repeated(14, () => calls(read("a.txt"))), END);
    const events = await json();
    assert.deepEqual([executed(events), entries(events)], [14, []]);
  });

  test("limits changed with /kimi-settings during a run → count from then on", async () => {
    const file = join(home.home, ".pi", "pi-provider-kimi-code.json");
    mkdirSync(join(file, ".."));
    writeFileSync(file, JSON.stringify({ loop: { warn: 0, block: 0, stop: 0 } }));
    const slow = repeated(100, () => ({ steps: [{ pauseMs: 200 }, ...(calls(read("a.txt")).steps ?? [])] }));
    simulator.enqueue(...slow, END);
    const pi = open(MODEL, { home, env: env() });
    const run = pi.prompt("go");
    const executions = (): number => executed(pi.events);
    while (executions() < 6) await pi.waitFor((event) => event.type === "tool_execution_end", pi.events.length);
    await pi.command({ type: "prompt", message: "/kimi-settings loop.stop 4" });
    const events = await run;
    assert.equal(entries(events).at(-1)?.action, "stop");
    assert.ok(requests() < 100, `${requests()}`);
  });

  test("the user asks again → counting begins again, also after an end", async () => {
    const pi = open(MODEL, { home, env: env() });
    simulator.enqueue(...repeated(12, () => calls(read("a.txt"))));
    const first = await pi.prompt("read it");
    assert.equal(entries(first).at(-1)?.action, "stop");
    simulator.enqueue(calls(read("a.txt")), END);
    const second = await pi.prompt("again, please");
    assert.deepEqual([executed(second), entries(second), requests()], [1, [], 14]);
  });

  test("models of other providers → never", async () => {
    const models = { providers: { other: provider() } };
    writeFileSync(join(home.agent, "models.json"), JSON.stringify(models));
    // Pi's own code for this API does not know what Kimi accepts.
    simulator.settings.validation = false;
    simulator.enqueue(...repeated(13, () => calls(read("a.txt"))), END);
    const { events } = await runPi(["--mode", "json", "--no-session", "--model", "other/kimi-for-coding", "go"], {
      home,
      env: env(),
    });
    assert.deepEqual([executed(events), entries(events)], [13, []]);
  });

  function provider(): object {
    return {
      baseUrl: `${simulator.baseUrl}/v1`,
      api: "openai-completions",
      apiKey: simulator.apiKey,
      models: [{ id: "kimi-for-coding", name: "Other", contextWindow: 262_144, maxTokens: 32_000, input: ["text"] }],
    };
  }

  test("on a screen → the notice and the reason are shown", async () => {
    const pi = new Terminal(MODEL, { home, env: env() });
    try {
      await pi.waitFor(/Kimi 5h/);
      simulator.enqueue(...repeated(30, () => calls(read("a.txt"))));
      await pi.submit("hi");
      await pi.waitFor(/Kimi was stopped: read was called 12 times/);
      assert.equal(requests(), 12);
    } finally {
      await pi.close();
    }
  });
});
