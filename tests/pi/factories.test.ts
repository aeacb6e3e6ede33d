/** Extensions made by `KimiCode(overrides)`: several in one process are independent. */
import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { Provider } from "@earendil-works/pi-ai";
import { KimiCode, type Overrides } from "../../index.ts";
import { type Simulator, startSimulator } from "../simulator/index.ts";
import { bodyOf, Home } from "../support/pi.ts";

type Handler = (event: object, context: object) => unknown;

/** A minimal Pi that keeps what an extension registers and starts sessions. */
class Host {
  provider: Provider | undefined;
  readonly commands = new Map<string, { handler(args: string, context: object): Promise<void> }>();
  readonly #handlers: [event: string, handler: Handler][] = [];

  async load(overrides: Overrides): Promise<this> {
    await KimiCode(overrides)({
      registerProvider: (provider: Provider) => (this.provider = provider),
      registerCommand: (name: string, command: { handler(args: string, context: object): Promise<void> }) =>
        this.commands.set(name, command),
      on: (event: string, handler: Handler) => this.#handlers.push([event, handler]),
    } as never);
    return this;
  }

  async enter(cwd: string): Promise<string[]> {
    const told: string[] = [];
    const ui = { notify: (text: string) => told.push(text), setStatus: () => undefined };
    const context = { cwd, ui, hasUI: false, mode: "json", isProjectTrusted: () => true };
    for (const [event, handler] of this.#handlers) if (event === "session_start") await handler({}, context);
    return told;
  }

  async ask(): Promise<void> {
    const { provider } = this;
    const [model] = provider?.getModels() ?? [];
    assert.ok(provider && model);
    const context = { messages: [{ role: "user" as const, content: "hello", timestamp: 0 }] };
    const message = await provider.streamSimple(model, context as never).result();
    assert.equal(message.stopReason, "stop", message.errorMessage);
  }
}

let simulator: Simulator;
let home: Home;
let earlier: string | undefined;

before(async () => {
  simulator = await startSimulator();
  home = new Home();
  earlier = process.env["HOME"];
  process.env["HOME"] = home.home;
});
after(async () => {
  if (earlier === undefined) delete process.env["HOME"];
  else process.env["HOME"] = earlier;
  home.remove();
  await simulator.close();
});

/** Returns the output cap of the last chat request. */
function cap(): number | undefined {
  const chat = simulator.requests.findLast(({ endpoint }) => endpoint === "chat");
  return bodyOf<{ max_completion_tokens?: number }>(chat).max_completion_tokens;
}

test("factories: two with different overrides → each keeps its own", async () => {
  const { baseUrl, apiKey } = simulator;
  const one = await new Host().load({ baseUrl, apiKey, model: { maxCompletionTokens: 1000 } });
  const two = await new Host().load({ apiKey, env: { KIMI_CODE_BASE_URL: baseUrl, KIMI_MODEL_MAX_TOKENS: "2000" } });
  await one.ask();
  assert.equal(cap(), 1000);
  await two.ask();
  assert.equal(cap(), 2000);
  await one.ask();
  assert.equal(cap(), 1000);
});

test("factories: sessions in two projects → each has the settings of its project", async () => {
  const project = (name: string, settings: object): string => {
    const directory = join(home.path, name);
    // Something that Pi itself has to trust, so that its answer is a decision.
    mkdirSync(join(directory, ".pi", "extensions"), { recursive: true });
    writeFileSync(join(directory, ".pi", "pi-provider-kimi-code.json"), JSON.stringify(settings));
    return directory;
  };
  const { baseUrl, apiKey } = simulator;
  const one = await new Host().load({ baseUrl, apiKey });
  const two = await new Host().load({ baseUrl, apiKey });
  await one.enter(project("one", { model: { maxCompletionTokens: 500 } }));
  const told = await two.enter(project("two", { model: { maxCompletionTokens: "much" } }));
  assert.match(told.join(), /maxCompletionTokens/);
  await one.ask();
  assert.equal(cap(), 500);
  await two.ask();
  assert.notEqual(cap(), 500);
});
