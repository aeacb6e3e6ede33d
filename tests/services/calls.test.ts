/** Search, fetch and data sources through the addon, without Pi: requests, answers, failures, files, abort. */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { host } from "../../extension/environment.ts";
import { KimiServices, type ServiceOptions } from "../../extension/services.ts";
import { type Simulator, startSimulator } from "../simulator/index.ts";
import { failure } from "../support/failure.ts";
import { withSimulator } from "../support/simulator.ts";
import { addon } from "../support/turn.ts";

let simulator: Simulator;
const services = new KimiServices(addon(), host("0.87.1"));
let machine: string;
let project: string;

withSimulator((given) => (simulator = given));
beforeEach(() => {
  machine = mkdtempSync(join(tmpdir(), "kimi-tools-"));
  project = join(machine, "project");
  mkdirSync(project);
});
afterEach(() => rmSync(machine, { recursive: true, force: true }));

/** A machine on which Pi is logged in; `remaining` seconds of the token. */
function loggedIn(remaining = 900, more: object = {}): ServiceOptions {
  const { access, refresh } = simulator.oauth.login();
  const entry = { type: "oauth", access, refresh, expires: Date.now() + remaining * 1000, ...more };
  writeFileSync(join(machine, "auth.json"), JSON.stringify({ "kimi-coding": entry }));
  return { env: env() };
}

function env(extra: Record<string, string | undefined> = {}): Record<string, string | undefined> {
  return {
    HOME: machine,
    KIMI_CODE_HOME: join(machine, "kimi"),
    PI_CODING_AGENT_DIR: machine,
    KIMI_CODE_BASE_URL: simulator.baseUrl,
    KIMI_CODE_OAUTH_HOST: simulator.oauthHost,
    ...extra,
  };
}

describe("tools: requests", () => {
  test("headers and bodies → those of the official client, except for the identity", async () => {
    const options = { ...loggedIn(), callId: "moonshot_search:0" };
    await services.search("kimi code", options);
    await services.fetch("https://example.com/page", options);
    await services.datasource({ source: "arxiv" }, options);
    const params = { query: "kimi", file_path: "out.csv" };
    await services.datasource({ source: "arxiv", api: "arxiv_search", params }, options);
    assert.deepEqual(
      simulator.requests.map(({ path, json }) => [path, json]),
      [
        ["/coding/v1/search", { text_query: "kimi code" }],
        ["/coding/v1/fetch", { url: "https://example.com/page" }],
        ["/coding/v1/tools", { method: "get_data_source_desc", params: { name: "arxiv" } }],
        [
          "/coding/v1/tools",
          {
            method: "call_data_source_tool",
            params: { data_source_name: "arxiv", api_name: "arxiv_search", params },
          },
        ],
      ],
    );
    for (const { headers, auth } of simulator.requests) {
      assert.equal(headers["x-msh-tool-call-id"], "moonshot_search:0");
      assert.equal(headers["content-type"], "application/json");
      assert.match(headers["user-agent"] ?? "", /^pi\/0\.87\.1 .*pi-provider-kimi-code\//);
      assert.equal(auth, "bearer");
    }
    assert.equal(simulator.requests[1]?.headers["accept"], "text/markdown");
  });

  test("no tool call id → a new UUID each time", async () => {
    const options = loggedIn();
    const answers = [await services.search("a", options), await services.search("b", options)];
    const ids = simulator.requests.map(({ headers }) => headers["x-msh-tool-call-id"]);
    assert.deepEqual(
      ids,
      answers.map(({ callId }) => callId),
    );
    assert.notEqual(ids[0], ids[1]);
    for (const id of ids) assert.match(id ?? "", /^[\da-f]{8}-[\da-f]{4}-4[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}$/);
  });
});

describe("tools: answers", () => {
  test("data sources under another base URL → requested there", async () => {
    const { env } = loggedIn();
    const elsewhere = (url: string): ServiceOptions => ({ env: { ...env, KIMI_DATASOURCE_API_URL: url } });
    await services.datasource({ source: "arxiv" }, elsewhere(`${simulator.origin}/elsewhere/tools`)).catch(() => {});
    assert.deepEqual(
      simulator.requests.map(({ path }) => path),
      ["/elsewhere/tools"],
    );
    const refused = await failure(services.datasource({ source: "arxiv" }, elsewhere("file:///tools")));
    assert.match(refused.message, /KIMI_DATASOURCE_API_URL is not an http/);
  });

  test("search → results and a text for the model", async () => {
    const answer = await services.search("kimi k3", loggedIn());
    assert.equal(answer.total, 5);
    assert.deepEqual(answer.results[0], {
      title: "What is new about kimi k3",
      url: "https://platform.moonshot.cn/kimi%20k3",
      site: "Moonshot AI",
      date: "2026-07-12",
      snippet:
        "Release notes, models and prices. The page lists what changed for developers, with examples for both dialects.",
    });
    assert.match(answer.text, /^Title: What is new about kimi k3\nSite: Moonshot AI\nDate: 2026-07-12\nURL: https:/);
    assert.match(answer.text, /\n\n---\n\nTitle: 深度解读： kimi k3\nSite: 机器之心/);
    const nothing = await services.search("nothing [[empty]]", loggedIn());
    assert.deepEqual([nothing.text, nothing.results], ["No search results found.", []]);
  });

  test("page → returned unchanged", async () => {
    const answer = await services.fetch("https://example.com/页", loggedIn());
    assert.match(answer.text, /^# Simulated page\n\nContent of https:\/\/example\.com\/页\.\n/);
    assert.deepEqual(answer.notes, []);
    const empty = await services.fetch("https://example.com/[[empty]]", loggedIn());
    assert.deepEqual([empty.text, empty.notes], ["", ["[The page has no text.]"]]);
  });

  test("data source → its documentation, an answer, a trace", async () => {
    const options = { ...loggedIn(), callId: "kimi_datasource:1" };
    const documentation = await services.datasource({ source: "arxiv" }, options);
    assert.match(documentation.text, /^## arxiv\n\n- arxiv_search\(/);
    assert.match(documentation.requestId ?? "", /^req-/);
    assert.deepEqual(documentation.notes, [
      `[kimi-datasource] request-id: ${documentation.requestId} · tool-call-id: kimi_datasource:1`,
    ]);
    const empty = await services.datasource({ source: "arxiv", api: "sim_empty" }, options);
    assert.match(empty.text, /^The answer holds no text\. All of it:\n\{/);
  });

  test("sources of the official plugin → all known", () => {
    const names = services.sources().map(([name]) => name);
    assert.equal(names.length, 25);
    assert.ok(["stock_finance_data", "arxiv", "caixin", "eurostat"].every((name) => names.includes(name)));
  });

  for (const [name, call] of [
    ["search", (options: ServiceOptions) => services.search("x [[huge]]", options)],
    ["fetch", (options: ServiceOptions) => services.fetch("https://example.com/[[huge]]", options)],
    ["datasource", (options: ServiceOptions) => services.datasource({ source: "who", api: "sim_huge" }, options)],
  ] as const) {
    test(`5 MB from ${name} → truncated for the model, complete in a file and for programs`, async () => {
      const limit = { bytes: 50 * 1024, lines: 2000, directory: machine };
      const cut = await call({ ...loggedIn(), limit });
      assert.ok(Buffer.byteLength(cut.text) <= limit.bytes && cut.text.split("\n").length <= limit.lines);
      assert.ok(cut.truncated);
      const path = cut.fullOutputPath ?? "";
      assert.ok(cut.notes[0]?.endsWith(`Full output saved to: ${path}]`), cut.notes[0]);
      assert.equal(statSync(path).size, cut.bytes);
      assert.ok(cut.bytes >= 5_000_000);
      assert.ok(readFileSync(path, "utf8").startsWith(cut.text));
      const whole = await call(loggedIn());
      assert.equal(Buffer.byteLength(whole.text), cut.bytes);
      assert.equal(whole.truncated, undefined);
    });
  }
});

describe("tools: login", () => {
  test("a 401 → refreshed and retried once", async () => {
    const options = loggedIn();
    simulator.oauth.revokeAccess();
    assert.equal((await services.search("kimi", options)).total, 5);
    assert.deepEqual(
      simulator.requests.map(({ endpoint, status }) => `${endpoint} ${status}`),
      ["search 401", "token 200", "search 200"],
    );
    assert.equal(simulator.oauth.refreshes, 1);
  });

  test("a second 401 → an error that says what to do", async () => {
    simulator.intercept("fetch", { status: 401, body: "no" }, { status: 401, body: "still no" });
    const error = await failure(services.fetch("https://example.com", loggedIn()));
    assert.deepEqual([error.code, error.status], ["unauthorized", 401]);
    assert.match(error.message, /^Moonshot fetch failed: 401 still no.*kimi\.login\(\)/s);
    assert.equal(simulator.requests.filter(({ endpoint }) => endpoint === "fetch").length, 2);
  });

  test("static key → an error, nothing is sent", async () => {
    const error = await failure(services.search("kimi", { env: env({ KIMI_API_KEY: simulator.apiKey }) }));
    assert.equal(error.code, "login_required");
    assert.equal(
      error.message,
      "Moonshot search failed: this tool needs a Kimi Code login; an API key is not enough. Sign in with kimi.login().",
    );
    const passed = await failure(services.search("kimi", { env: env(), credential: simulator.apiKey }));
    assert.equal(passed.message, error.message);
    const anonymous = await failure(services.search("kimi", { env: env() }));
    assert.match(anonymous.message, /needs a Kimi Code login\. Sign in/);
    assert.equal(simulator.requests.length, 0);
  });

  test("static key beside a stored login → the login is used, and refreshed after a 401", async () => {
    const hosts = { baseUrl: simulator.baseUrl, oauthHost: simulator.oauthHost };
    const passed = { ...loggedIn(900, hosts), credential: simulator.apiKey };
    assert.equal((await services.search("kimi", passed)).total, 5);
    simulator.oauth.revokeAccess();
    assert.match((await services.fetch("https://example.com/", passed)).text, /Simulated page/);
    const variable = { env: env({ KIMI_API_KEY: simulator.apiKey }) };
    assert.match((await services.datasource({ source: "arxiv" }, variable)).text, /^## arxiv/);
    assert.deepEqual(
      simulator.requests.map(({ endpoint, status, auth }) => `${endpoint} ${status} ${auth}`),
      ["search 200 bearer", "fetch 401 bearer", "token 200 none", "fetch 200 bearer", "tools 200 bearer"],
    );
    for (const { headers } of simulator.requests) {
      assert.notEqual(headers["authorization"], `Bearer ${simulator.apiKey}`);
    }
  });

  test("static key for another address than the stored login's → an error, nothing is sent", async () => {
    const hosts = { baseUrl: simulator.baseUrl, oauthHost: simulator.oauthHost };
    const elsewhere = `${simulator.origin}/elsewhere`;
    loggedIn(900, hosts);
    const options: ServiceOptions[] = [
      { env: env({ KIMI_CODE_BASE_URL: elsewhere }), credential: simulator.apiKey },
      {
        env: env({ KIMI_CODE_BASE_URL: undefined }),
        credential: simulator.apiKey,
        ...{ baseUrl: simulator.baseUrl, modelsJsonBaseUrl: elsewhere },
      },
    ];
    for (const option of options) {
      const error = await failure(services.search("kimi", option));
      assert.equal(error.code, "login_required");
      assert.match(error.message, /needs a Kimi Code login; an API key is not enough/);
    }
    // A login that records no address belongs to kimi.com.
    loggedIn();
    assert.equal(
      (await failure(services.search("kimi", { env: env(), credential: simulator.apiKey }))).code,
      "login_required",
    );
    assert.equal(simulator.requests.length, 0);
  });

  test("refresh refused → the error asks to sign in again", async () => {
    const options = loggedIn();
    simulator.oauth.revokeAll();
    const error = await failure(services.search("kimi", options));
    assert.match(error.message, /Sign in again with kimi\.login\(\)/);
  });
});

describe("tools: invalid input → rejected before anything is sent", () => {
  const cases: [name: string, call: () => Promise<unknown>, complaint: RegExp][] = [
    ["an empty query", () => services.search(" "), /the query is empty/],
    ["a query of 100 KB", () => services.search("x".repeat(100 * 1024)), /has 102400 characters, at most 4000/],
    ["a query that is no text", () => services.search(7 as never), /cannot be read: .*expected a string/],
    ["something that is no URL", () => services.fetch("example"), /"example" is not a URL .*https:\/\//],
    ["a file URL", () => services.fetch("file:///etc/passwd"), /only http:\/\/ and https:\/\/ .* not file:/],
    ["an unknown source", () => services.datasource({ source: "x" }), /no data source "x"; there are stock_.*, caixin/],
    [
      "params that are no object",
      () => services.datasource({ source: "arxiv", api: "a", params: [1] }),
      /params must be an object, not a list/,
    ],
  ];
  for (const [name, call, complaint] of cases) {
    test(name, async () => {
      const error = await failure(call());
      assert.match(error.message, complaint);
      assert.equal(error.code, "bad_request");
      assert.equal(simulator.requests.length, 0);
    });
  }

  test("fetch: an address of this machine → sent to the service, not fetched here", async () => {
    const other = await startSimulator();
    try {
      const error = await failure(services.fetch(`${other.origin}/secret`, loggedIn()));
      assert.match(error.message, /^Moonshot fetch failed: 400 .*Failed to fetch http:\/\/127\.0\.0\.1.*not public/);
      assert.equal(other.requests.length, 0);
      assert.equal(simulator.requests.length, 1);
    } finally {
      await other.close();
    }
  });
});

describe("tools: failures of the service", () => {
  test("status and text → kept; a plan without the tool → named", async () => {
    const message = "Your current subscription does not have access to web search.";
    simulator.intercept("search", { status: 403, body: { error: { message, type: "access_terminated_error" } } });
    const error = await failure(services.search("kimi", loggedIn()));
    assert.deepEqual([error.code, error.status], ["entitlement", 403]);
    assert.ok(error.message.startsWith(`Moonshot search failed: 403 ${message}`), error.message);
  });

  test("401 about the plan → no refresh", async () => {
    const message = "Your current subscription does not have access to this tool.";
    simulator.intercept("search", { status: 401, body: { error: { message } } });
    assert.equal((await failure(services.search("kimi", loggedIn()))).code, "entitlement");
    assert.equal(simulator.oauth.refreshCalls, 0);
  });

  for (const [name, body, complaint] of [
    ["HTML", "<html><head><title>Bad gateway</title></head></html>", /not JSON: Bad gateway/],
    ["nothing", "", /not JSON/],
    ["half of an object", '{"search_results": [', /not JSON/],
    ["a list", "[]", /without search results/],
  ] as const) {
    test(`200 with ${name} → an error`, async () => {
      simulator.intercept("search", { status: 200, body });
      assert.match((await failure(services.search("kimi", loggedIn()))).message, complaint);
    });
  }

  test("200 without content → an error", async () => {
    simulator.intercept("tools", { status: 204, body: "" });
    assert.equal((await failure(services.datasource({ source: "arxiv" }, loggedIn()))).status, 204);
  });

  test("wrong charset in the header → read as UTF-8", async () => {
    const headers = { "content-type": "text/markdown; charset=gbk" };
    simulator.intercept("fetch", { status: 200, headers, body: "# 中文" });
    assert.equal((await services.fetch("https://example.com", loggedIn())).text, "# 中文");
  });

  test("refusal of a data source → an error with both ids", async () => {
    const options = { ...loggedIn(), callId: "c:1" };
    for (const [api, reason] of [
      ["sim_error_text", "quota of this source is used up"],
      ["sim_error_record", "ticker not found"],
      ["no_such_api", "API_NOT_FOUND: arxiv has no API named no_such_api"],
      ["arxiv_search", "Missing required parameters: file_path"],
    ] as const) {
      const error = await failure(services.datasource({ source: "arxiv", api }, options));
      assert.equal(
        error.message,
        `kimi_datasource failed: the source answered with an error: ${reason}\n\n` +
          `[kimi-datasource] request-id: ${error.traceId} · tool-call-id: c:1`,
      );
      assert.match(error.traceId ?? "", /^req-/);
    }
    const headers = { "x-request-id": " ", "request-id": "late" };
    simulator.intercept("tools", { status: 500, headers: { ...headers, "x-trace-id": "" }, body: "broken" });
    const error = await failure(services.datasource({ source: "arxiv" }, options));
    assert.match(error.message, /^kimi_datasource failed: 500 broken.*request-id: late · tool-call-id: c:1$/s);
  });

  test("no service, no answer → the error has the cause", async () => {
    loggedIn();
    const nowhere = { env: env({ KIMI_CODE_BASE_URL: "http://127.0.0.1:9" }) };
    const error = await failure(services.search("kimi", nowhere));
    assert.equal(error.code, "network");
    assert.match(error.message, /^Moonshot search failed: connection error while connecting: .*refused/i);
  });
});

describe("tools: time", () => {
  test("slow answer → waited for, up to the timeout", async () => {
    assert.equal((await services.search("kimi [[slow:300]]", loggedIn())).total, 5);
    const error = await failure(services.search("kimi [[slow:20000]]", { ...loggedIn(), timeoutMs: 1500 }));
    assert.deepEqual(
      [error.code, error.message],
      ["timeout", "Moonshot search failed: no complete answer within 1.5 s"],
    );
    await simulator.waitForRequest(({ aborted }) => aborted);
    const unlimited = await services.search("kimi [[slow:300]]", { ...loggedIn(), timeoutMs: 0 });
    assert.equal(unlimited.total, 5);
  });

  test("abort → ends the call at once and closes its connection", async () => {
    const controller = new AbortController();
    const call = failure(
      services.fetch("https://example.com/[[slow:60000]]", { ...loggedIn(), signal: controller.signal }),
    );
    const record = await simulator.waitForRequest(({ endpoint }) => endpoint === "fetch");
    const before = Date.now();
    controller.abort();
    assert.equal((await call).code, "cancelled");
    assert.ok(Date.now() - before < 20_000);
    await simulator.waitForRequest(({ id, aborted }) => id === record.id && aborted);
    const early = await failure(services.search("kimi", { ...loggedIn(), signal: AbortSignal.abort() }));
    assert.equal(early.code, "cancelled");
    assert.equal(simulator.requests.length, 1);
  });
});

describe("data source files", () => {
  const ask = (api: string, params: object): Promise<{ files?: unknown[]; notes: string[]; text: string }> =>
    services.datasource({ source: "arxiv", api, params, project }, loggedIn());

  test("path inside the project → written there", async () => {
    const { files, notes } = await ask("arxiv_search", { query: "k", file_path: "data/papers.csv" });
    assert.deepEqual(files, [{ name: "data/papers.csv", size: 62, path: "data/papers.csv" }]);
    assert.equal(notes[0], "Files:\n- data/papers.csv (62B) written");
    assert.match(readFileSync(join(project, "data/papers.csv"), "utf8"), /^date,open,close\n/);
    await ask("sim_binary", { file_path: join(project, "p.png") });
    assert.equal(readFileSync(join(project, "p.png")).toString("hex"), "89504e470d0a1a0a");
  });

  test("names and paths that lead outside → rejected", async () => {
    writeFileSync(join(project, "package.json"), "mine");
    symlinkSync(machine, join(project, "link"));
    const { notes } = await ask("sim_escape", { file_path: "out.csv" });
    assert.equal(notes[0]?.split("\n").filter((line) => line.includes("not written: ")).length, 3, notes[0]);
    for (const path of ["../out.csv", "link/out.csv", join(machine, "out.csv"), "a/../../out.csv"]) {
      const answer = await ask("arxiv_search", { query: "k", file_path: path });
      assert.match(answer.notes[0] ?? "", /not written: /, path);
    }
    assert.equal(readFileSync(join(project, "package.json"), "utf8"), "mine");
    assert.throws(() => statSync(join(machine, "out.csv")));
    assert.throws(() => statSync(join(machine, "outside.csv")));
  });

  test("no project → files are listed, not written", async () => {
    const params = { query: "k", file_path: "out.csv" };
    const { notes } = await services.datasource({ source: "arxiv", api: "arxiv_search", params }, loggedIn());
    assert.equal(notes[0], "Files:\n- out.csv (62B) not written: there is no project folder to write to");
  });
});
