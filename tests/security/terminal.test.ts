/** Texts of the service that reach a terminal: control characters and reordered text become visible signs. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, beforeEach, describe, test } from "node:test";
import { Kimi } from "../../index.ts";
import { type Simulator, startSimulator } from "../simulator/index.ts";
import { failure } from "../support/failure.ts";
import { Home } from "../support/pi.ts";

/** Clipboard (OSC 52), clear screen (CSI), both also as C1 controls, and an override that turns text around. */
const HOSTILE = "a\u001b]52;c;aGk=\u0007b\u001b[2Jc\u009b2J\u009d0;t\u009cd\u202egpj.exe\u2069\u007f";
const SHOWN = "a␛]52;c;aGk=␇b␛[2Jc<U+009B>2J<U+009D>0;t<U+009C>d<U+202E>gpj.exe<U+2069>␡";

// eslint-disable-next-line no-control-regex
const UNSAFE = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/;

const home = new Home();
let simulator: Simulator;
let kimi: Kimi;

before(async () => {
  Object.assign(process.env, { HOME: home.home, USERPROFILE: home.home, PI_CODING_AGENT_DIR: home.agent });
  simulator = await startSimulator({ identityGate: "off" });
});
after(async () => {
  await simulator.close();
  home.remove();
});
beforeEach(() => {
  simulator.reset();
  const { access, refresh } = simulator.oauth.login();
  const login = { type: "oauth", access, refresh, expires: Date.now() + 900_000 };
  writeFileSync(join(home.agent, "auth.json"), JSON.stringify({ "kimi-coding": login }));
  kimi = new Kimi({ baseUrl: simulator.baseUrl, env: { KIMI_CODE_OAUTH_HOST: simulator.oauthHost } });
});

/** Fails if a text anywhere in a value could steer a terminal. */
function assertSafe(value: unknown): void {
  if (typeof value === "string") assert.doesNotMatch(value, UNSAFE);
  else if (typeof value === "object" && value !== null)
    for (const [name, member] of Object.entries(value)) {
      assertSafe(name);
      assertSafe(member);
    }
}

describe("terminal: what a program gets", () => {
  test("error of a chat: escape sequences in the service's text → visible signs", async () => {
    simulator.enqueue({ http: { status: 400, body: { error: { message: HOSTILE } } } });
    const error = await failure(kimi.chat("hi").final());
    assert.ok(error.message.includes(SHOWN), error.message);
    assertSafe(error.message);
  });

  test("search: escape sequences in results → visible signs in text and members", async () => {
    const result = {
      title: HOSTILE,
      url: `https://e/${HOSTILE}`,
      site_name: HOSTILE,
      date: HOSTILE,
      snippet: `x\n${HOSTILE}`,
    };
    simulator.intercept("search", { status: 200, body: { search_results: [result] } });
    const found = await kimi.search("kimi");
    assertSafe(found);
    assert.equal(found.results[0]?.title, SHOWN);
    assert.equal(found.results[0]?.snippet, `x\n${SHOWN}`, "line breaks stay");
  });

  test("page: escape sequences → visible signs, line breaks and tabs stay", async () => {
    simulator.intercept("fetch", {
      status: 200,
      body: `# T\r\n\t${HOSTILE}\n`,
      headers: { "content-type": "text/markdown" },
    });
    const page = await kimi.fetch("https://example.com");
    assert.equal(page.text, `# T\r\n\t${SHOWN}\n`);
  });

  test("data source: escape sequences in texts, file names and errors → visible signs", async () => {
    const answer = { is_success: true, result: { assistant: [HOSTILE] }, files: [{ name: HOSTILE, content: "x" }] };
    simulator.intercept("tools", { status: 200, body: answer });
    assertSafe(await kimi.datasource({ source: "arxiv" }));
    simulator.intercept("tools", { status: 200, body: { is_success: false, error: HOSTILE } });
    const error = await failure(kimi.datasource({ source: "arxiv" }));
    assert.ok(error.message.includes(SHOWN), error.message);
  });

  test("quota and account: escape sequences in names → visible signs on one line", async () => {
    simulator.intercept("usages", {
      status: 200,
      body: {
        user: { membership: { level: HOSTILE } },
        usage: { name: `${HOSTILE}\n`, used: 1, limit: 2 },
        limits: [{ title: HOSTILE, detail: { used: 1, limit: 2 } }],
        usages: { [`limit_${HOSTILE}`]: { used_ratio: 0.5 } },
      },
    });
    assertSafe(await kimi.usage());
    simulator.intercept("me", {
      status: 200,
      body: { user_id: HOSTILE, nickname: HOSTILE, user_level_name: HOSTILE, email: HOSTILE },
    });
    const account = await kimi.account();
    assertSafe(account);
    assert.equal(account.name, SHOWN);
  });

  test("models: escape sequences in names → visible signs", async () => {
    const entry = { id: "k9", context_length: 5000, display_name: HOSTILE, protocol: HOSTILE };
    simulator.intercept("models", { status: 200, body: { data: [entry] } });
    const models = await kimi.models();
    assertSafe(models);
    assert.ok(JSON.stringify(models).includes("a␛]52"), "the model is listed");
  });
});
