/** Project settings: a cloned folder with nothing but our file, which Pi trusts without a question. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, realpathSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { Simulator } from "../simulator/index.ts";
import { bodyOf, type Home, type PiEvent, type RpcPi, runPi } from "../support/pi.ts";
import { Terminal } from "../support/terminal.ts";
import { withPi } from "../support/with-pi.ts";

let simulator: Simulator;
let home: Home;
const open = withPi((...given) => {
  [simulator, home] = given;
  simulator.setDefault({ steps: [{ text: "Hello." }] });
  mkdirSync(join(home.cwd, ".pi"), { recursive: true });
  writeFileSync(
    join(home.cwd, ".pi", "pi-provider-kimi-code.json"),
    JSON.stringify({ model: { maxCompletionTokens: 1234 } }),
  );
});

const MODEL = ["--no-session", "--model", "kimi-coding/kimi-for-coding"];

function env(): Record<string, string | undefined> {
  return { KIMI_CODE_BASE_URL: simulator.baseUrl, KIMI_API_KEY: simulator.apiKey };
}

/** Runs a prompt and returns whether the project's setting was in the request, and what stderr says. */
async function applies(...args: string[]): Promise<[boolean, string]> {
  const { stderr } = await runPi(["-p", ...MODEL, ...args, "hi"], { home, env: env() });
  return [sent(), stderr];
}

function sent(): boolean {
  const chat = simulator.requests.findLast(({ endpoint }) => endpoint === "chat");
  return bodyOf<{ max_completion_tokens?: number }>(chat).max_completion_tokens === 1234;
}

async function until(check: () => boolean, what: string): Promise<void> {
  const end = Date.now() + 30_000;
  while (!check()) {
    if (Date.now() > end) throw new Error(`never happened: ${what}`);
    await new Promise((resume) => setTimeout(resume, 50));
  }
}

describe("project trust, headless", () => {
  test("no decision → the file is ignored, and stderr says so", async () => {
    const [applied, stderr] = await applies();
    assert.equal(applied, false);
    assert.match(stderr, /model\.maxCompletionTokens is ignored, because Pi does not trust this project/);
  });

  test("--approve → the file counts", async () => {
    assert.deepEqual(await applies("--approve"), [true, ""]);
  });

  test("defaultProjectTrust: always → the file counts", async () => {
    home.settings({ defaultProjectTrust: "always" });
    assert.deepEqual(await applies(), [true, ""]);
  });

  for (const [decision, settings] of [
    [true, {}],
    [false, {}],
    [false, { defaultProjectTrust: "always" }],
  ] as const) {
    const beside = "defaultProjectTrust" in settings ? ", beside defaultProjectTrust: always" : "";
    test(`trust.json: ${decision}${beside} → the file ${decision ? "counts" : "is ignored"}`, async () => {
      home.settings(settings);
      writeFileSync(join(home.agent, "trust.json"), JSON.stringify({ [realpathSync(home.cwd)]: decision }));
      assert.equal((await applies())[0], decision);
    });
  }
});

describe("project trust, mistakes of a file that does not count", () => {
  for (const [content, said] of [
    ["{ broken", /is not JSON/],
    ['{"colour": 1, "shape": 2}', /: colour is not a setting, nor is 1 more name in this file/],
  ] as const) {
    test(`${content} → one line on stderr`, async () => {
      writeFileSync(join(home.cwd, ".pi", "pi-provider-kimi-code.json"), content);
      const [, stderr] = await applies();
      assert.match(stderr, said);
      assert.equal(stderr.trim().split("\n").length, 2, stderr);
    });
  }
});

describe("project trust, in RPC mode", () => {
  const ui = (method: string) => (event: PiEvent) =>
    event.type === "extension_ui_request" && event["method"] === method;
  const say = async (pi: RpcPi, command: string): Promise<string> => {
    const from = pi.events.length;
    await pi.command({ type: "prompt", message: command });
    return String((await pi.waitFor(ui("notify"), from))["message"]);
  };
  const answersFile = (): string => join(home.home, ".pi", "pi-provider-kimi-code", "trusted-projects.json");
  const answers = (): unknown => (existsSync(answersFile()) ? JSON.parse(readFileSync(answersFile(), "utf8")) : {});
  const change = "/kimi-settings model.topP 0.5 --project";

  test("the question is left → nothing is kept, and the next session asks again", async () => {
    const pi = open(MODEL, { home, env: env() });
    pi.choose(await pi.waitFor(ui("select")));
    await pi.waitFor(ui("notify"));
    await pi.prompt("hi");
    assert.deepEqual([sent(), answers()], [false, {}]);
    const from = pi.events.length;
    await pi.command({ type: "new_session" });
    pi.choose(await pi.waitFor(ui("select"), from), "Yes");
    await until(() => Object.keys(answers() as object).length === 1, "the answer is kept");
    await pi.prompt("hi");
    assert.equal(sent(), true);
  });

  test("a new session while the question is open → one question, whose answer counts there", async () => {
    const pi = open(MODEL, { home, env: env() });
    const question = await pi.waitFor(ui("select"));
    await pi.command({ type: "new_session" });
    await pi.prompt("hi");
    // A second one would have come with the session.
    await new Promise((resolve) => setTimeout(resolve, 500));
    assert.equal(pi.events.filter(ui("select")).length, 1);
    pi.choose(question, "Yes");
    await until(() => Object.keys(answers() as object).length === 1, "the answer is kept");
    await pi.prompt("hi");
    assert.equal(sent(), true);
  });

  test("--project while the question is open → answers it, whatever is chosen later", async () => {
    const pi = open(MODEL, { home, env: env() });
    const question = await pi.waitFor(ui("select"));
    assert.match(await say(pi, change), /^model\.topP = 0\.5 \(/);
    pi.choose(question, "No");
    await pi.prompt("hi");
    assert.equal(sent(), true);
    assert.deepEqual(answers(), { [realpathSync(home.cwd)]: true });
  });

  test("--project after No → counts as Yes; a value that is refused changes nothing", async () => {
    const pi = open(MODEL, { home, env: env() });
    pi.choose(await pi.waitFor(ui("select")), "No");
    // What does not count is reported then.
    await pi.waitFor(ui("notify"));
    assert.deepEqual(answers(), { [realpathSync(home.cwd)]: false });
    assert.match(await say(pi, "/kimi-settings model.topP lots --project"), /model\.topP cannot be "lots"/);
    assert.deepEqual(answers(), { [realpathSync(home.cwd)]: false });
    await pi.prompt("hi");
    assert.equal(sent(), false);
    assert.match(await say(pi, change), /^model\.topP = 0\.5 \(/);
    await pi.prompt("hi");
    assert.equal(sent(), true);
    assert.deepEqual(answers(), { [realpathSync(home.cwd)]: true });
  });

  test("--project where Pi's trust.json says no → refused, and nothing is written", async () => {
    writeFileSync(join(home.agent, "trust.json"), JSON.stringify({ [realpathSync(home.cwd)]: false }));
    const pi = open(MODEL, { home, env: env() });
    await pi.waitFor(ui("notify"));
    assert.equal(await say(pi, change), "Pi does not trust this project");
    assert.deepEqual(answers(), {});
    assert.doesNotMatch(readFileSync(join(home.cwd, ".pi", "pi-provider-kimi-code.json"), "utf8"), /topP/);
  });

  test("Pi in the home directory → no question, and the file counts as the user's own", async () => {
    writeFileSync(join(home.cwd, ".pi", "pi-provider-kimi-code.json"), JSON.stringify({ retry: { attempts: 50 } }));
    const link = join(home.path, "link");
    symlinkSync(home.cwd, link, "junction");
    const pi = open(MODEL, { home, env: { ...env(), HOME: link, USERPROFILE: link } });
    await pi.prompt("hi");
    assert.match(await say(pi, "/kimi-settings retry.attempts"), /^retry\.attempts = 50 \(/);
    assert.match(await say(pi, change), /is the home file: leave out --project$/);
    assert.equal(pi.events.filter(ui("select")).length, 0);
  });
});

describe("project trust, print mode", () => {
  test("--project without a decision → refused: a script does not answer for the user", async () => {
    const { stdout } = await runPi(["-p", ...MODEL, "/kimi-settings model.topP 0.5 --project"], { home, env: env() });
    assert.match(stdout, /^This project is not trusted: run the command on a screen, or start Pi with --approve/);
    const approved = ["-p", "--approve", ...MODEL, "/kimi-settings model.topP 0.5 --project"];
    assert.match((await runPi(approved, { home, env: env() })).stdout, /^model\.topP = 0\.5 \(/);
  });
});

describe("project trust, on a screen", () => {
  test("the question is left with Escape → nothing is kept", async () => {
    const pi = new Terminal(MODEL, { home, env: env() });
    try {
      await pi.waitFor(/Use the Kimi settings of this project\?[^]*Yes[^]*No/);
      pi.press("Escape");
      await pi.waitFor(/^(?![^]*Use the Kimi settings)/);
      await pi.submit("hi");
      await pi.waitFor(/Hello\./);
      assert.equal(sent(), false);
    } finally {
      await pi.close();
    }
    assert.equal(existsSync(join(home.home, ".pi", "pi-provider-kimi-code", "trusted-projects.json")), false);
  });

  for (const answer of ["Yes", "No"] as const) {
    test(`no decision, answer ${answer} → asked once, kept, and in effect`, async () => {
      for (const start of ["first", "second"]) {
        const pi = new Terminal(MODEL, { home, env: env() });
        try {
          if (start === "first") {
            await pi.waitFor(/Use the Kimi settings of this project\?[^]*Yes[^]*No/);
            if (answer === "No") pi.press("Down");
            pi.press("Enter");
          }
          await pi.waitFor(/kimi-for-coding/);
          await pi.waitFor(/^(?![^]*Use the Kimi settings)/);
          await pi.submit("hi");
          await pi.waitFor(/Hello\./);
          assert.equal(sent(), answer === "Yes", start);
        } finally {
          await pi.close();
        }
      }
      const answers = readFileSync(join(home.home, ".pi", "pi-provider-kimi-code", "trusted-projects.json"), "utf8");
      assert.deepEqual(JSON.parse(answers), { [realpathSync(home.cwd)]: answer === "Yes" });
    });
  }
});
