/** Several agents of real Pi on one account: sub-agents of Pi's own example, and who waits is shown. */
import assert from "node:assert/strict";
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Simulator } from "../simulator/index.ts";
import { type Home, messages, PI_CLI, ROOT, runPi, textOf } from "../support/pi.ts";
import { Terminal } from "../support/terminal.ts";
import { withPi } from "../support/with-pi.ts";

let simulator: Simulator;
let home: Home;
const open = withPi((...given) => ([simulator, home] = given));

const MODEL = ["--no-session", "--model", "kimi-coding/kimi-for-coding"];
const env = (): Record<string, string> => ({ KIMI_CODE_BASE_URL: simulator.baseUrl, KIMI_API_KEY: simulator.apiKey });

/** Pi's example extension, which runs agents in processes of their own. */
const PACKAGE = /^.*[\\/]pi-coding-agent(?=[\\/])/.exec(PI_CLI)?.[0] ?? "";
const SUBAGENT = join(PACKAGE, "examples", "extensions", "subagent", "index.ts");

function limit(max: number): void {
  mkdirSync(join(home.home, ".pi"), { recursive: true });
  writeFileSync(join(home.home, ".pi", "pi-provider-kimi-code.json"), JSON.stringify({ concurrency: { max } }));
}

/** Classes of the requests that wait: 0 interactive, 1 agent, 2 batch. */
function waiting(): string[] {
  try {
    const slots = join(home.home, ".pi", "pi-provider-kimi-code", "slots");
    return readdirSync(slots).flatMap((account) =>
      readdirSync(join(slots, account, "waiting"))
        .filter((name) => !name.startsWith("."))
        .map((name) => name[0] ?? ""),
    );
  } catch {
    return [];
  }
}

/** Most chats at the same time. */
function most(): number {
  const chats = simulator.requests.filter(({ endpoint }) => endpoint === "chat");
  return Math.max(
    ...chats.map(({ time }) => chats.filter((one) => one.time <= time && (one.endedAt ?? Infinity) > time).length),
  );
}

test(
  "Pi's sub-agents, a limit of one request → no deadlock, one at a time, as agents",
  { timeout: 180_000 },
  async () => {
    limit(1);
    mkdirSync(join(home.agent, "agents"));
    const agent = "---\nname: worker\ndescription: Works\n---\nYou work.\n";
    writeFileSync(join(home.agent, "agents", "worker.md"), agent);
    // The example starts Pi anew, which finds its extensions in the settings.
    home.settings({ extensions: [join(ROOT, "extension", "pi.ts"), SUBAGENT] });
    const tasks = ["one", "two", "three"].map((task) => ({ agent: "worker", task }));
    simulator.enqueue({ steps: [{ toolCall: { name: "subagent", arguments: { tasks } } }] });
    simulator.setDefault({ steps: [{ text: "Well" }, { pauseMs: 1500 }, { text: " done." }] });
    const classes = new Set<string>();
    const over = new AbortController();
    const watch = (async () => {
      for (; !over.signal.aborted; await sleep(20)) for (const one of waiting()) classes.add(one);
    })();
    const result = await runPi(["-p", ...MODEL, "delegate"], {
      home,
      env: env(),
      extensions: "installed",
      timeoutMs: 150_000,
    });
    over.abort();
    await watch;
    assert.deepEqual([result.code, result.stdout.trim()], [0, "Well done."], result.stderr);
    const chats = simulator.requests.filter(({ endpoint }) => endpoint === "chat");
    assert.deepEqual([chats.length, most()], [5, 1], JSON.stringify(chats.at(-1)?.json).slice(-3000));
    assert.deepEqual([...classes], ["1"], "sub-agents wait as agents");
  },
);

test("another account within a session → its requests count apart from then on", async () => {
  limit(1);
  simulator.credentials.add("sk-kimi-other");
  simulator.setDefault({ steps: [{ text: "Yes" }, { pauseMs: 600_000 }] });
  const use = (key: string): void =>
    writeFileSync(join(home.agent, "auth.json"), JSON.stringify({ "kimi-coding": { type: "api_key", key } }));
  use(simulator.apiKey);
  const [holder, session] = [0, 1].map(() => open(MODEL, { home, env: { ...env(), KIMI_API_KEY: undefined } }));
  await holder?.command({ type: "prompt", message: "hi" });
  await simulator.waitForRequest(({ endpoint, status }) => endpoint === "chat" && status === 200);
  await session?.command({ type: "prompt", message: "first" });
  while (waiting().length < 1) await sleep(20);
  await session?.command({ type: "abort" });
  while (waiting().length > 0) await sleep(20);
  use("sk-kimi-other");
  simulator.setDefault({ steps: [{ text: "Done." }] });
  const events = (await session?.prompt("second")) ?? [];
  assert.equal(textOf(messages(events).at(-1)), "Done.");
  const keys = simulator.requests
    .filter(({ endpoint }) => endpoint === "chat")
    .map(({ headers }) => headers["authorization"]);
  assert.deepEqual(keys, [`Bearer ${simulator.apiKey}`, "Bearer sk-kimi-other"]);
  assert.equal(readdirSync(join(home.home, ".pi", "pi-provider-kimi-code", "slots")).length, 2);
});

test("RPC session → interactive, print mode → batch", async () => {
  limit(1);
  simulator.setDefault({ steps: [{ text: "Yes" }, { pauseMs: 600_000 }] });
  const rpc = [0, 1].map(() => open(MODEL, { home, env: env() }));
  for (const pi of rpc) await pi.command({ type: "prompt", message: "hi" });
  while (waiting().length < 1) await sleep(20);
  assert.deepEqual(waiting(), ["0"]);
  const print = runPi(["-p", ...MODEL, "hi"], { home, env: env() });
  while (waiting().length < 2) await sleep(20);
  assert.deepEqual(waiting().toSorted(), ["0", "2"]);
  simulator.setDefault({ steps: [{ text: "Done." }] });
  await Promise.all(rpc.map((pi) => pi.close()));
  assert.equal((await print).code, 0);
});

test("on a screen → who goes first while it waits, and the requests under way in /kimi-usage", async () => {
  limit(1);
  simulator.setDefault({ steps: [{ text: "Yes" }, { pauseMs: 600_000 }] });
  const holder = open(MODEL, { home, env: env() });
  await holder.command({ type: "prompt", message: "hi" });
  await simulator.waitForRequest(({ endpoint, status }) => endpoint === "chat" && status === 200);
  const queued = open(MODEL, { home, env: env() });
  await queued.command({ type: "prompt", message: "hi" });
  while (waiting().length < 1) await sleep(20);
  const pi = new Terminal(MODEL, { home, env: env() });
  try {
    await pi.waitFor(/Kimi 5h/);
    await pi.submit("/kimi-usage");
    await pi.waitFor(/1 of 1 requests under way \(0 here\), 1 waiting/);
    await pi.submit("hi");
    await pi.waitFor(/Kimi: waits for a slot, 1 ahead \(escape to cancel\)/);
    simulator.setDefault({ steps: [{ text: "At last." }] });
    await Promise.all([holder.close(), queued.close()]);
    await pi.waitFor(/At last\./);
    await pi.waitFor(/^(?![^]*waits for a slot)/);
  } finally {
    await pi.close();
  }
});

test("waiting on a screen: the key → the turn ends and leaves the queue", async () => {
  limit(1);
  simulator.setDefault({ steps: [{ text: "Yes" }, { pauseMs: 600_000 }] });
  const holder = open(MODEL, { home, env: env() });
  await holder.command({ type: "prompt", message: "hi" });
  await simulator.waitForRequest(({ endpoint, status }) => endpoint === "chat" && status === 200);
  const pi = new Terminal(MODEL, { home, env: env() });
  try {
    await pi.waitFor(/Kimi 5h/);
    await pi.submit("hi");
    await pi.waitFor(/Kimi: waits for a slot \(escape to cancel\)/);
    pi.press("Escape");
    await pi.waitFor(/abort/i);
    while (waiting().length > 0) await sleep(20);
    assert.equal(simulator.requests.filter(({ endpoint }) => endpoint === "chat").length, 1);
  } finally {
    await pi.close();
  }
});
