/** Project settings: a cloned folder with nothing but our file, which Pi trusts without a question. */
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, realpathSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { Simulator } from "../simulator/index.ts";
import { bodyOf, type Home, runPi } from "../support/pi.ts";
import { Terminal } from "../support/terminal.ts";
import { withPi } from "../support/with-pi.ts";

let simulator: Simulator;
let home: Home;
withPi((...given) => {
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

describe("project trust, on a screen", () => {
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
