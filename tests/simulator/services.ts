// Web search, page fetch and data sources (docs/protocol.md#plan-tools). A marker inside the query or URL picks an unusual
// answer: see the README.

import { randomBytes } from "node:crypto";
import { invalidRequest } from "./errors.ts";
import type { Exchange } from "./exchange.ts";
import { asObject, asString, type JsonObject } from "./json.ts";
import type { Route } from "./routes.ts";
import { callSource, describeSource, page, results } from "./services-data.ts";
import { sleep } from "./wire.ts";

const HUGE_BYTES = 5 * 1024 * 1024;

/** `[[empty]]`, `[[huge]]`, `[[slow:3000]]`, also URL-encoded. */
function marker(text: string): { name: string; value: string } | undefined {
  const found = /\[\[([a-z-]+)(?::([^\]]*))?\]\]/.exec(safeDecode(text));
  return found === null ? undefined : { name: found[1] ?? "", value: found[2] ?? "" };
}

function safeDecode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Waits if requested; false if the client is gone by then. */
async function paced(exchange: Exchange, asked: ReturnType<typeof marker>): Promise<boolean> {
  if (asked?.name === "slow") await sleep(Number(asked.value) || 3000, exchange.gone);
  return !exchange.gone.aborted;
}

function requestId(): Record<string, string> {
  return { "x-request-id": `req-${randomBytes(8).toString("hex")}` };
}

async function search(exchange: Exchange): Promise<void> {
  const query = asString(exchange.jsonBody()["text_query"])?.trim();
  if (!query) throw invalidRequest("Invalid request: text_query is required");
  const asked = marker(query);
  if (!(await paced(exchange, asked))) return;
  const count = asked?.name === "huge" ? Infinity : asked?.name === "empty" ? 0 : 5;
  exchange.json(200, { search_results: results(query.replace(/\s*\[\[.*?\]\]/g, ""), count, HUGE_BYTES) });
}

async function fetchPage(exchange: Exchange): Promise<void> {
  const url = asString(exchange.jsonBody()["url"]);
  if (!url || !/^https?:\/\//i.test(url)) throw invalidRequest("Invalid request: url must be an http or https URL");
  const asked = marker(url);
  if (!(await paced(exchange, asked))) return;
  const { hostname } = new URL(url);
  // [I] The service's answer to an address it cannot reach is unknown; that it refuses private ones is known.
  if (hostname === "localhost" || /^(127|10|192\.168)\./.test(hostname)) {
    throw invalidRequest(`Failed to fetch ${url}: the address is not public`);
  }
  const text = asked?.name === "huge" ? page(url, HUGE_BYTES) : asked?.name === "empty" ? "" : page(url, 0);
  exchange.send(200, text, { "content-type": "text/markdown; charset=utf-8" });
}

async function tools(exchange: Exchange): Promise<void> {
  const { method, params: raw } = exchange.jsonBody();
  const params = asObject(raw) ?? {};
  const asked = marker(JSON.stringify(params));
  if (!(await paced(exchange, asked))) return;
  if (method === "get_data_source_desc") {
    // For the service another key than `name` is no error, it just describes nothing.
    exchange.json(200, success(describeSource(asString(params["name"]))), requestId());
  } else if (method === "call_data_source_tool") {
    const arguments_ = asObject(params["params"]) ?? {};
    const source = asString(params["data_source_name"]) ?? "";
    exchange.json(200, callSource(source, asString(params["api_name"]) ?? "", arguments_, HUGE_BYTES), requestId());
  } else {
    throw invalidRequest(`Invalid request: unknown method ${JSON.stringify(method ?? null)}`);
  }
}

function success(text: string): JsonObject {
  return { is_success: true, result: { assistant: [{ type: "text", text }], user: [] }, error: null };
}

const guarded = { method: "POST", credential: true, identity: false } as const;

export const routes: Route[] = [
  { ...guarded, path: "/coding/v1/search", endpoint: "search", handle: search },
  { ...guarded, path: "/coding/v1/fetch", endpoint: "fetch", handle: fetchPage },
  { ...guarded, path: "/coding/v1/tools", endpoint: "tools", handle: tools },
];
