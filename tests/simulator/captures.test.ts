/**
 * Requests of real clients, captured against a stand-in that answered 200: the simulator must accept them as well.
 *
 * `fixtures/requests/captured.jsonl` holds their structure, one request per line: members, kinds of values, tool schemas,
 * headers. The texts and identities were replaced; credentials and codes are inserted here.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { beforeEach, describe, test } from "node:test";
import type { Simulator } from "./index.ts";
import { withSimulator } from "../support/simulator.ts";
import { fakePng } from "../support/sample-media.ts";

interface Captured {
  who: string;
  what: string;
  method: string;
  /** With the query. */
  path: string;
  credential: "bearer" | "x-api-key" | "both" | "none";
  headers: Record<string, string>;
  json?: object;
  form?: Record<string, string>;
  parts?: { name: string; filename?: string; contentType?: string; value?: string }[];
}

const captured = readFileSync(new URL("../fixtures/requests/captured.jsonl", import.meta.url), "utf8")
  .trim()
  .split("\n")
  .map((line) => JSON.parse(line) as Captured);

let simulator: Simulator;
// The files of the captured requests were uploaded to another stand-in.
withSimulator((given) => (simulator = given), { fileReferences: "any" });
beforeEach(() => simulator.setDefault({ steps: [{ text: "ok" }] }));

function credentials(kind: Captured["credential"]): Record<string, string> {
  const { apiKey } = simulator;
  return {
    ...(kind === "bearer" || kind === "both" ? { authorization: `Bearer ${apiKey}` } : {}),
    ...(kind === "x-api-key" || kind === "both" ? { "x-api-key": apiKey } : {}),
  };
}

/** A code that was confirmed. */
async function deviceCode(request: Captured): Promise<string> {
  simulator.oauth.scripts.push(["approve"]);
  const body = new URLSearchParams({ client_id: request.form?.["client_id"] ?? "" });
  const answer = await fetch(`${simulator.oauthHost}/api/oauth/device_authorization`, { method: "POST", body });
  return ((await answer.json()) as { device_code: string }).device_code;
}

async function content({
  json,
  form,
  parts,
  ...request
}: Captured): Promise<string | URLSearchParams | FormData | null> {
  if (json !== undefined) return JSON.stringify(json);
  if (form !== undefined) {
    const filled = new URLSearchParams(form);
    if (filled.get("refresh_token") === "<refresh>") filled.set("refresh_token", simulator.oauth.login().refresh);
    if (filled.get("device_code") === "<device>") filled.set("device_code", await deviceCode({ form, ...request }));
    return filled;
  }
  if (parts === undefined) return null;
  const data = new FormData();
  for (const { name, filename, contentType, value } of parts) {
    if (filename === undefined) data.append(name, value ?? "image");
    else data.append(name, new Blob([Uint8Array.from(fakePng(2000))], { type: contentType ?? "" }), filename);
  }
  return data;
}

test("captures: every kind of endpoint → present", () => {
  const paths = new Set(captured.map(({ path }) => path.replace(/\?.*/, "").replace(/.*\//, "")));
  const known = ["completions", "messages", "models", "files", "search", "fetch", "tools", "usages", "me", "token"];
  for (const path of [...known, "device_authorization"]) assert.ok(paths.has(path), path);
});

for (const who of new Set(captured.map((one) => one.who))) {
  describe(`captured requests of ${who} → accepted`, () => {
    for (const [number, request] of captured.filter((one) => one.who === who).entries()) {
      test(`${number + 1}: ${request.what}`, async () => {
        const body = await content(request);
        const answer = await fetch(`${simulator.origin}${request.path}`, {
          method: request.method,
          headers: { ...request.headers, ...credentials(request.credential) },
          ...(body === null ? {} : { body }),
        });
        const text = await answer.text();
        assert.equal(answer.status, 200, text);
        assert.notEqual(simulator.requests.at(-1)?.endpoint, "unknown");
      });
    }
  });
}
