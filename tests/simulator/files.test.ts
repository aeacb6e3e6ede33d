// The simulated Files API and who may refer to its files (docs/protocol.md#files-api).

import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import { startSimulator, type Simulator } from "./index.ts";
import { readMultipart } from "./multipart.ts";
import { chat, messages } from "./testing.ts";

let simulator: Simulator;
before(async () => {
  simulator = await startSimulator();
});
beforeEach(() => simulator.reset());
after(() => simulator.close());

interface Wish {
  bytes?: Uint8Array<ArrayBuffer>;
  mime?: string;
  purpose?: string;
  key?: string;
}

async function upload(wish: Wish = {}): Promise<{ status: number; body: Record<string, unknown> }> {
  const form = new FormData();
  const blob = new Blob([wish.bytes ?? Buffer.from("\x89PNG", "latin1")], { type: wish.mime ?? "image/png" });
  form.set("file", blob, "upload.png");
  if (wish.purpose !== "") form.set("purpose", wish.purpose ?? "image");
  const response = await fetch(`${simulator.baseUrl}/v1/files`, {
    method: "POST",
    headers: { authorization: `Bearer ${wish.key ?? simulator.apiKey}` },
    body: form,
  });
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
}

describe("uploads", () => {
  test("an upload is answered like the service answers it", async () => {
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

  test("what is no usable upload is refused", async () => {
    const wishes: Wish[] = [
      { purpose: "file-extract" },
      { purpose: "" },
      { bytes: new Uint8Array(0) },
      { mime: "application/pdf" },
      { purpose: "video" },
    ];
    for (const wish of wishes) assert.equal((await upload(wish)).status, 400, JSON.stringify(wish));
    assert.equal((await upload({ key: "sk-stranger" })).status, 401);
    assert.equal(simulator.files.all.length, 0);
  });

  test("a body above the limit gets 413", async () => {
    simulator.settings.maxBodyBytes = 1000;
    assert.equal((await upload({ bytes: new Uint8Array(2000) })).status, 413);
  });

  test("a broken form names its fault", () => {
    const type = "multipart/form-data; boundary=b";
    const problem = (body: string): unknown => readMultipart(type, Buffer.from(body));
    assert.deepEqual(problem(""), { problem: "the body does not begin with its boundary" });
    assert.deepEqual(problem('--b\r\nContent-Disposition: form-data; name="file"\r\n\r\ncut'), {
      problem: "a part has no end",
    });
    assert.deepEqual(readMultipart("multipart/form-data", Buffer.alloc(0)), { problem: "no multipart boundary" });
  });
});

describe("references", () => {
  const image = (id: unknown): object => ({
    messages: [{ role: "user", content: [{ type: "image_url", image_url: { url: `ms://${String(id)}` } }] }],
  });

  test("known files are accepted in both dialects, unknown ones in neither", async () => {
    const { body } = await upload();
    const source = (id: unknown): object => ({
      messages: [{ role: "user", content: [{ type: "image", source: { type: "url", url: `ms://${String(id)}` } }] }],
    });
    assert.equal((await chat(simulator, image(body["id"]) as never)).status, 200);
    assert.equal((await messages(simulator, source(body["id"]) as never)).status, 200);
    assert.equal((await chat(simulator, image("nobody") as never)).status, 400);
    assert.equal((await messages(simulator, source("nobody") as never)).status, 400);
    simulator.files.remove(String(body["id"]));
    assert.equal((await chat(simulator, image(body["id"]) as never)).status, 400);
  });

  test("a file belongs to an account and survives its tokens", async () => {
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
