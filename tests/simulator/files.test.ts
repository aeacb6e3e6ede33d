// The simulated Files API and who may refer to its files (docs/protocol.md#files-api).

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Simulator } from "./index.ts";
import { readMultipart } from "./multipart.ts";
import { chat, messages } from "./testing.ts";
import { withSimulator } from "../support/simulator.ts";

let simulator: Simulator;
withSimulator((given) => (simulator = given));

interface Upload {
  bytes?: Uint8Array<ArrayBuffer>;
  mime?: string;
  purpose?: string;
  key?: string;
}

async function upload(one: Upload = {}): Promise<{ status: number; body: Record<string, unknown> }> {
  const form = new FormData();
  const blob = new Blob([one.bytes ?? Buffer.from("\x89PNG", "latin1")], { type: one.mime ?? "image/png" });
  form.set("file", blob, "upload.png");
  if (one.purpose !== "") form.set("purpose", one.purpose ?? "image");
  const response = await fetch(`${simulator.baseUrl}/v1/files`, {
    method: "POST",
    headers: { authorization: `Bearer ${one.key ?? simulator.apiKey}` },
    body: form,
  });
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
}

describe("simulator files: uploads", () => {
  test("an upload → answered like the service answers it", async () => {
    const { status, body } = await upload();
    assert.equal(status, 200);
    const [file] = simulator.files.all;
    assert.deepEqual(body, {
      id: file?.id,
      object: "file",
      bytes: 4,
      created_at: file?.createdAt,
      filename: "upload.png",
      purpose: "image",
    });
    assert.match(String(body["id"]), /^[A-Za-z0-9][A-Za-z0-9._-]*$/);
  });

  test("unusable upload → refused", async () => {
    const uploads: Upload[] = [
      { purpose: "file-extract" },
      { purpose: "" },
      { bytes: new Uint8Array(0) },
      { mime: "application/pdf" },
      { purpose: "video" },
    ];
    for (const one of uploads) assert.equal((await upload(one)).status, 400, JSON.stringify(one));
    assert.equal((await upload({ key: "sk-stranger" })).status, 401);
    assert.equal(simulator.files.all.length, 0);
  });

  test("body above the limit → 413", async () => {
    simulator.settings.maxBodyBytes = 1000;
    assert.equal((await upload({ bytes: new Uint8Array(2000) })).status, 413);
  });

  test("malformed form → the error names the fault", () => {
    const type = "multipart/form-data; boundary=b";
    const problem = (body: string): unknown => readMultipart(type, Buffer.from(body));
    assert.deepEqual(problem(""), { problem: "the body does not begin with its boundary" });
    assert.deepEqual(problem('--b\r\nContent-Disposition: form-data; name="file"\r\n\r\ncut'), {
      problem: "a part has no end",
    });
    assert.deepEqual(readMultipart("multipart/form-data", Buffer.alloc(0)), { problem: "no multipart boundary" });
  });
});

describe("simulator files: references", () => {
  const image = (id: unknown): object => ({
    messages: [{ role: "user", content: [{ type: "image_url", image_url: { url: `ms://${String(id)}` } }] }],
  });

  test("known files → accepted in both dialects; unknown ones → in neither", async () => {
    const { body } = await upload();
    const source = (id: unknown): object => ({
      messages: [{ role: "user", content: [{ type: "image", source: { type: "url", url: `ms://${String(id)}` } }] }],
    });
    assert.equal((await chat(simulator, image(body["id"]) as never)).status, 200);
    assert.equal((await messages(simulator, source(body["id"]) as never)).status, 200);
    assert.equal((await chat(simulator, image("unknown") as never)).status, 400);
    assert.equal((await messages(simulator, source("unknown") as never)).status, 400);
    simulator.files.remove(String(body["id"]));
    assert.equal((await chat(simulator, image(body["id"]) as never)).status, 400);
  });

  test("a file → belongs to an account and outlives its tokens", async () => {
    const token = (sub: string, serial: number): string => {
      const payload = Buffer.from(JSON.stringify({ sub, serial })).toString("base64url");
      const value = `eyJhbGciOiJub25lIn0.${payload}.x`;
      simulator.credentials.add(value);
      return value;
    };
    const { body } = await upload({ key: token("u1", 1) });
    const id = String(body["id"]);
    assert.ok(simulator.files.find(id, "u1"));
    const ask = async (bearer: string): Promise<number> => {
      const response = await fetch(`${simulator.baseUrl}/v1/chat/completions`, {
        method: "POST",
        headers: { authorization: `Bearer ${bearer}`, "user-agent": "pi/test", "content-type": "application/json" },
        body: JSON.stringify({ model: "kimi-for-coding", stream: false, ...image(id) }),
      });
      return response.status;
    };
    assert.equal(await ask(token("u1", 2)), 200);
    assert.equal(await ask(token("u2", 1)), 400);
  });
});
