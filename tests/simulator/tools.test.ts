// Search, fetch and data sources of the simulated service, as docs/protocol.md#plan-tools has them.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Simulator } from "./index.ts";
import type { JsonObject } from "./json.ts";
import { dig, post } from "./testing.ts";
import { withSimulator } from "../support/simulator.ts";

let simulator: Simulator;
withSimulator((given) => (simulator = given));

async function tools(method: string, params: JsonObject): Promise<JsonObject> {
  const response = await post(simulator, "/v1/tools", { method, params });
  assert.equal(response.status, 200);
  assert.match(response.headers.get("x-request-id") ?? "", /^req-[\da-f]{16}$/);
  return (await response.json()) as JsonObject;
}

describe("simulator tools: authentication", () => {
  for (const path of ["/v1/search", "/v1/fetch", "/v1/tools"]) {
    test(`${path} → needs a credential and a POST`, async () => {
      const headers = { "content-type": "application/json" };
      assert.equal((await post(simulator, path, {}, { headers })).status, 401);
      assert.equal((await fetch(`${simulator.baseUrl}${path}`)).status, 405);
    });
  }
});

describe("simulator tools: search", () => {
  test("answer → has the members of the captured ones, some of them missing", async () => {
    const response = await post(simulator, "/v1/search", { text_query: "kimi" });
    const { search_results: results } = (await response.json()) as { search_results: JsonObject[] };
    assert.equal(results.length, 5);
    const members = ["site_name", "title", "url", "snippet", "content", "date", "icon", "mime"];
    assert.deepEqual(Object.keys(results[0] ?? {}), members);
    assert.equal(results[4]?.["site_name"], "");
  });

  test("empty, huge, slow, invalid query → as requested", async () => {
    const ask = (query: unknown): Promise<Response> => post(simulator, "/v1/search", { text_query: query });
    assert.deepEqual(await (await ask("x [[empty]]")).json(), { search_results: [] });
    assert.ok((await (await ask("x [[huge]]")).text()).length > 5_000_000);
    const start = Date.now();
    await (await ask("x [[slow:200]]")).text();
    assert.ok(Date.now() - start >= 190);
    for (const query of [undefined, "", 7]) assert.equal((await ask(query)).status, 400);
  });
});

describe("simulator tools: fetch", () => {
  test("pages → Markdown; private addresses → refused", async () => {
    const page = await post(simulator, "/v1/fetch", { url: "https://example.com/page" });
    assert.match(page.headers.get("content-type") ?? "", /^text\/markdown/);
    assert.ok((await page.text()).startsWith("# Simulated page\n\nContent of https://example.com/page.\n"));
    for (const url of ["http://localhost:1/", "http://127.0.0.1/", "file:///etc/passwd", "no"]) {
      assert.equal((await post(simulator, "/v1/fetch", { url })).status, 400, url);
    }
  });
});

describe("simulator tools: data sources", () => {
  test("`name` → the documentation; another key → nothing", async () => {
    const text = (body: JsonObject) => dig(body, "result", "assistant", 0, "text");
    assert.match(String(text(await tools("get_data_source_desc", { name: "arxiv" }))), /^## arxiv\n\n- arxiv_search\(/);
    assert.equal(text(await tools("get_data_source_desc", { data_source_name: "arxiv" })), "");
  });

  test("unknown API or missing parameter → refused with a 200", async () => {
    const ask = (api_name: string, params: JsonObject = {}): Promise<JsonObject> =>
      tools("call_data_source_tool", { data_source_name: "arxiv", api_name, params });
    assert.match(String((await ask("nope"))["error"]), /^API_NOT_FOUND/);
    assert.equal((await ask("arxiv_search"))["error"], "Missing required parameters: file_path");
    const answer = await ask("arxiv_search", { query: "k", file_path: "out.csv" });
    assert.equal(dig(answer, "files", 0, "name"), "out.csv");
    assert.equal(answer["is_success"], true);
    assert.equal((await ask("sim_error_record"))["is_success"], false);
    assert.equal((await post(simulator, "/v1/tools", { method: "other" })).status, 400);
  });
});
