/** The governor over real processes: one account's limit of parallel requests binds all of them. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import type { RequestRecord, Simulator } from "../simulator/index.ts";
import { Home } from "../support/pi.ts";
import { withSimulator } from "../support/simulator.ts";
import type { LoadEvent, LoadTask } from "./load.ts";

const PROGRAM = join(import.meta.dirname, "load.ts");

let simulator: Simulator;
let home: Home;
let programs: Program[] = [];
withSimulator((given) => (simulator = given), { identityGate: "off" });
beforeEach(() => {
  home = new Home();
});
afterEach(async () => {
  for (const program of programs) program.kill("SIGKILL");
  await Promise.all(programs.map((program) => program.ended));
  programs = [];
  await simulator.quiet();
  home.remove();
});

/** A running `load.ts`. */
class Program {
  readonly events: LoadEvent[] = [];
  readonly ended: Promise<void>;
  readonly #child: ChildProcess;
  #stderr = "";
  #changed = (): void => {};

  /** `under` is a command that runs the program. */
  constructor(task: LoadTask, env: Record<string, string | undefined> = {}, under: string[] = []) {
    const [command = "", ...args] = [...under, process.execPath, PROGRAM, JSON.stringify(task)];
    this.#child = spawn(command, args, {
      cwd: home.cwd,
      env: home.env({ KIMI_CODE_BASE_URL: simulator.baseUrl, KIMI_API_KEY: simulator.apiKey, ...env }),
      stdio: ["ignore", "pipe", "pipe"],
    });
    let pending = "";
    this.#child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      const lines = (pending + text).split("\n");
      pending = lines.pop() ?? "";
      this.events.push(...lines.map((line) => JSON.parse(line) as LoadEvent));
      this.#changed();
    });
    this.#child.stderr?.setEncoding("utf8").on("data", (text: string) => (this.#stderr += text));
    this.ended = new Promise((resolve) =>
      this.#child.on("close", () => {
        this.#changed();
        resolve();
      }),
    );
    programs.push(this);
  }

  count(type: LoadEvent["type"]): number {
    return this.events.filter((event) => event.type === type).length;
  }

  /** Waits until there are `count` events of a type. */
  async until(type: LoadEvent["type"], count = 1): Promise<void> {
    while (this.count(type) < count) {
      assert.equal(this.#child.exitCode, null, `the program ended: ${this.#stderr} ${JSON.stringify(this.events)}`);
      await new Promise<void>((resolve) => (this.#changed = resolve));
    }
  }

  /** Waits for the end and checks that nothing went wrong. */
  async finished(): Promise<void> {
    await this.ended;
    assert.deepEqual(
      [this.#child.exitCode, this.#stderr, this.count("failed")],
      [0, "", 0],
      JSON.stringify(this.events),
    );
  }

  kill(signal: NodeJS.Signals): void {
    if (this.#child.exitCode === null) this.#child.kill(signal);
  }
}

function chats(): RequestRecord[] {
  return simulator.requests.filter(({ endpoint }) => endpoint === "chat");
}

/** Prompts of the chats in order of arrival. */
function prompts(): unknown[] {
  return chats().map(({ json }) => {
    const { messages } = json as { messages: { content: unknown }[] };
    const content = messages.at(-1)?.content;
    return Array.isArray(content) ? (content[0] as { text: unknown }).text : content;
  });
}

/** Most chats at the same time, and how many there were on average while chats waited (from the first full moment to the last start). */
function load(full: number): { most: number; average: number } {
  const steps = chats()
    .flatMap(({ time, endedAt }) => [
      { at: time, by: 1 },
      { at: endedAt ?? Date.now(), by: -1 },
    ])
    .toSorted((a, b) => a.at - b.at || a.by - b.by);
  const lastStart = Math.max(...chats().map(({ time }) => time));
  let [now, most, area, begin, last] = [0, 0, 0, Number.NaN, 0];
  for (const { at, by } of steps) {
    if (!Number.isNaN(begin) && at <= lastStart) area += now * (at - last);
    now += by;
    last = at;
    most = Math.max(most, now);
    if (now >= full && Number.isNaN(begin)) begin = at;
  }
  return { most, average: area / (lastStart - begin) };
}

/** A chat that takes this long. */
const lasting = (pauseMs: number) => ({ steps: [{ text: "Yes" }, { pauseMs }, { text: "." }] });
/** A chat that ends with its program. */
const ENDLESS = lasting(600_000);

/** Folder of the slots of the only account. */
function slots(): string {
  const all = join(home.home, ".pi", "pi-provider-kimi-code", "slots");
  return join(all, readdirSync(all)[0] ?? "");
}

describe("governor: many processes", () => {
  test(
    "12 processes × 5 streams, the service refuses above 30 → no refusal, 28 at a time",
    { timeout: 300_000 },
    async (t) => {
      simulator.settings.parallelLimit = 30;
      simulator.plan.usage = () => ({ parallel: { limit: "30" } });
      simulator.setDefault(lasting(5000));
      const all = Array.from({ length: 12 }, () => new Program({ streams: 5, rounds: 2 }));
      await Promise.all(all.map((program) => program.finished()));
      const { most, average } = load(28);
      t.diagnostic(`most ${most}, on average ${average.toFixed(1)} of 28 while others waited`);
      assert.equal(chats().length, 120, "every request was sent once");
      assert.deepEqual(new Set(chats().map(({ status }) => status)), new Set([200]));
      assert.ok(most <= 28, `${most}`);
      assert.ok(average >= 0.95 * 28, `${average}`);
      const asked = simulator.requests.filter(({ endpoint }) => endpoint === "usages").length;
      assert.ok(asked <= 2, `the limit was asked for ${asked} times`);
    },
  );

  test("kill -9 of 6 processes that hold all slots → 6 waiting requests leave", async (t) => {
    simulator.setDefault(ENDLESS);
    const holders = Array.from({ length: 6 }, () => new Program({ streams: 1, rounds: 1, max: 6 }));
    await Promise.all(holders.map((holder) => holder.until("start")));
    const waiting = new Program({ streams: 6, rounds: 1, max: 6, prompt: "waited" });
    await waiting.until("slot", 6);
    assert.equal(chats().length, 6);
    const killed = Date.now();
    for (const holder of holders) holder.kill("SIGKILL");
    await waiting.until("start", 6);
    const last = Math.max(
      ...chats()
        .slice(6)
        .map(({ time }) => time),
    );
    t.diagnostic(`the last one arrived ${last - killed} ms after the kill`);
    assert.equal(chats().length, 12);
    // Without the kernel's event they would look again after five seconds.
    if (process.platform === "linux") assert.ok(last - killed < 4000, `${last - killed} ms`);
  });

  test("20 batch requests wait, an interactive one comes → it is next", async () => {
    simulator.setDefault(ENDLESS);
    const holder = new Program({ streams: 1, rounds: 1, max: 1, prompt: "holder" });
    await holder.until("start");
    simulator.setDefault(lasting(20));
    const batch = new Program({ streams: 20, rounds: 1, max: 1, prompt: "batch" });
    await batch.until("slot", 20);
    const agent = new Program({ streams: 1, rounds: 1, max: 1, prompt: "agent", priority: "agent" });
    await agent.until("slot");
    const watched = new Program({ streams: 1, rounds: 1, max: 1, prompt: "watched", priority: "interactive" });
    await watched.until("slot");
    holder.kill("SIGKILL");
    await Promise.all([batch, agent, watched].map((program) => program.finished()));
    assert.deepEqual(prompts(), ["holder", "watched", "agent", ...Array<string>(20).fill("batch")]);
    assert.deepEqual(watched.events[0], { type: "slot", ahead: 0 });
    assert.deepEqual(
      watched.events.find(({ type }) => type === "start" || type === "done"),
      { type: "start" },
    );
  });

  test(
    "an unknown limit and refusals above 3 → all answered, and every process learns",
    { timeout: 300_000 },
    async () => {
      simulator.settings.parallelLimit = 3;
      simulator.plan.usage = () => ({});
      simulator.setDefault(lasting(300));
      const all = Array.from({ length: 4 }, () => new Program({ streams: 2, rounds: 2 }));
      await Promise.all(all.map((program) => program.finished()));
      const refused = chats().filter(({ status }) => status === 403).length;
      assert.ok(refused > 0);
      assert.equal(chats().length - refused, 16);
      const later = new Program({ streams: 4, rounds: 1 });
      await later.finished();
      assert.ok(later.count("slot") > 0, "a new process knows the limit");
    },
  );

  test("a refusal teaches one process → it binds requests of all within a second", { timeout: 300_000 }, async (t) => {
    simulator.plan.usage = () => ({});
    simulator.setDefault(lasting(300));
    const names = ["one", "other"];
    const all = names.map((prompt) => new Program({ streams: 6, rounds: 15, prompt }));
    await Promise.all(all.map((program) => program.until("start", 12)));
    // Twelve are under way, so half of them is learned.
    simulator.settings.parallelLimit = 8;
    await Promise.all(all.map((program) => program.finished()));
    const refused = chats().filter(({ status }) => status === 403);
    const bound = Math.min(...refused.map(({ time }) => time)) + 1000;
    const late = chats().filter(({ time }) => time >= bound);
    const most = Math.max(
      ...late.map(({ time }) => late.filter((one) => one.time <= time && (one.endedAt ?? Infinity) > time).length),
    );
    t.diagnostic(`${refused.length} refused, then at most ${most} at once, ${late.length} requests`);
    assert.ok(most <= 6, `${most}`);
    assert.ok(late.length > 50 && late.every(({ status }) => status === 200));
    assert.deepEqual(new Set(prompts().slice(-late.length)), new Set(names));
  });

  test("a rate limit that says nothing about requests at once → the limit stays", async () => {
    simulator.plan.usage = () => ({ parallel: { limit: "30" } });
    simulator.setDefault(lasting(200));
    simulator.intercept("chat", {
      status: 429,
      headers: { "retry-after": "1" },
      body: { error: { type: "rate_limit_reached_error", message: "max RPM: 20, please try again after 1 seconds" } },
    });
    const program = new Program({ streams: 8, rounds: 2 });
    await program.finished();
    assert.equal(program.count("retry"), 1);
    assert.equal(program.count("slot"), 0);
  });
});

describe("governor: priority", () => {
  test("a program that a Pi started → agent; another → batch", async () => {
    simulator.setDefault(ENDLESS);
    const holder = new Program({ streams: 1, rounds: 1, max: 1 });
    await holder.until("start");
    const started = new Program({ streams: 1, rounds: 1, max: 1 }, { KIMI_CODE_STARTED_BY: "1 screen" });
    const other = new Program({ streams: 1, rounds: 1, max: 1 });
    await Promise.all([started.until("slot"), other.until("slot")]);
    assert.deepEqual(
      readdirSync(join(slots(), "waiting"))
        .map((name) => name[0])
        .toSorted(),
      ["1", "2"],
    );
  });
});

describe("governor: processes that are suspended", { skip: process.platform === "win32" }, () => {
  test("suspended while waiting → others pass, and it goes on afterwards", async () => {
    simulator.setDefault(ENDLESS);
    const holder = new Program({ streams: 1, rounds: 1, max: 1 });
    await holder.until("start");
    simulator.setDefault(lasting(10));
    const suspended = new Program({ streams: 3, rounds: 1, max: 1, priority: "interactive", prompt: "suspended" });
    await suspended.until("slot", 3);
    suspended.kill("SIGSTOP");
    const other = new Program({ streams: 1, rounds: 1, max: 1, prompt: "other" });
    await other.until("slot");
    holder.kill("SIGKILL");
    await other.finished();
    assert.deepEqual(prompts().slice(1), ["other"]);
    suspended.kill("SIGCONT");
    await suspended.finished();
  });

  test("suspended while holding → its slot stays taken, as its stream does", async () => {
    simulator.setDefault(lasting(50));
    const holder = new Program({ streams: 1, rounds: 1, max: 2, prompt: "holder" });
    simulator.enqueue(ENDLESS);
    await holder.until("start");
    holder.kill("SIGSTOP");
    const other = new Program({ streams: 2, rounds: 3, max: 2, prompt: "other" });
    await other.finished();
    const { most } = load(2);
    assert.equal(most, 2);
    holder.kill("SIGCONT");
  });
});

describe("governor: odd folders", () => {
  /** The state folder's `slots`, before any program has made it. */
  function prepared(): string {
    const state = join(home.home, ".pi", "pi-provider-kimi-code");
    mkdirSync(state, { recursive: true, mode: 0o700 });
    return join(state, "slots");
  }

  async function runsUncounted(env: Record<string, string> = {}, under: string[] = []): Promise<void> {
    simulator.setDefault(lasting(200));
    const program = new Program({ streams: 4, rounds: 1, max: 1 }, env, under);
    await program.finished();
    assert.equal(program.count("slot"), 0);
    assert.equal(chats().length, 4);
  }

  test("a file where the folder should be → requests leave as before", async () => {
    writeFileSync(prepared(), "");
    await runsUncounted();
  });

  test(
    "a link → requests leave as before, and nothing is written behind it",
    { skip: process.platform === "win32" },
    async () => {
      const elsewhere = join(home.path, "elsewhere");
      mkdirSync(elsewhere);
      mkdirSync(prepared());
      const probe = new Program({ streams: 1, rounds: 1 });
      simulator.setDefault(lasting(1));
      await probe.finished();
      const [account = ""] = readdirSync(prepared());
      rmSync(join(prepared(), account), { recursive: true });
      symlinkSync(elsewhere, join(prepared(), account));
      simulator.requests.length = 0;
      await runsUncounted();
      assert.deepEqual(readdirSync(elsewhere), []);
    },
  );

  /** Permissions mean nothing to root, so its child gives up the right to pass over them. */
  const unprivileged = [
    ...["setpriv", "--bounding-set", "-dac_override,-dac_read_search"],
    ...["--inh-caps", "-dac_override,-dac_read_search"],
  ];
  const isRoot = process.getuid?.() === 0;
  const noPermissions =
    process.platform === "win32" ||
    (isRoot &&
      spawnSync("setpriv", [...unprivileged.slice(1), "true"]).status !== 0 &&
      "root, and there is no setpriv");

  test("read-only → requests leave as before", { skip: noPermissions }, async () => {
    mkdirSync(prepared(), { mode: 0o500 });
    await runsUncounted({}, isRoot ? unprivileged : []);
    assert.deepEqual(readdirSync(prepared()), []);
    chmodSync(prepared(), 0o700);
  });

  const canCompile = process.platform === "linux" && spawnSync("cc", ["--version"]).status === 0;

  test(
    "a file system without locks, as NFS may be → requests leave as before",
    { skip: canCompile ? false : "needs Linux and a C compiler" },
    async () => {
      // What the kernel says where no lock service runs.
      const source = "#include <errno.h>\nint flock(int file, int operation) { errno = ENOLCK; return -1; }\n";
      const library = join(home.path, "no-locks.so");
      writeFileSync(join(home.path, "no-locks.c"), source);
      const { status } = spawnSync("cc", ["-shared", "-fPIC", "-o", library, join(home.path, "no-locks.c")]);
      assert.equal(status, 0);
      await runsUncounted({ LD_PRELOAD: library });
    },
  );

  test("full of foreign files → the limit holds, and they stay", async () => {
    simulator.setDefault(lasting(50));
    await new Program({ streams: 1, rounds: 1 }).finished();
    const foreign = Array.from({ length: 200 }, (_, at) => `note-${at}.txt`);
    for (const name of foreign) {
      writeFileSync(join(slots(), name), "");
      writeFileSync(join(slots(), "waiting", name), "");
    }
    writeFileSync(join(slots(), "slot-x"), "");
    writeFileSync(join(slots(), "limits.json"), "{ broken");
    await new Program({ streams: 6, rounds: 2, max: 2 }).finished();
    assert.equal(load(2).most, 2);
    for (const name of foreign) assert.ok(statSync(join(slots(), "waiting", name)).isFile());
  });

  test("another account in the same process's folder → its own limit", async () => {
    simulator.credentials.add("sk-kimi-other");
    simulator.setDefault(ENDLESS);
    const one = new Program({ streams: 1, rounds: 1, max: 1 });
    await one.until("start");
    const other = new Program({ streams: 1, rounds: 1, max: 1, apiKey: "sk-kimi-other" });
    await other.until("start");
    assert.equal(other.count("slot"), 0);
  });
});
