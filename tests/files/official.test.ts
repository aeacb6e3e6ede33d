/**
 * Compares our uploads with captured ones of the official client 2.1.0: a pasted image and a video from disk
 * (docs/protocol.md#upload-request).
 */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { extname, join } from "node:path";
import { describe, test } from "node:test";
import { Kimi } from "../../index.ts";
import type { RequestRecord, Simulator } from "../simulator/index.ts";
import { readMultipart } from "../simulator/multipart.ts";
import { withMachine } from "../support/account.ts";
import { bodyOf, type Home } from "../support/pi.ts";
import { fakeMp4, fakePng } from "../support/sample-media.ts";
import { addon, runOne } from "../support/turn.ts";

interface Part {
  name: string;
  filename?: string;
  contentType?: string;
  value?: string;
}

interface Capture {
  method: string;
  path: string;
  accept: string;
  contentType: string;
  authorization: string;
  parts: Part[];
  reference: object;
}

const captured = JSON.parse(
  readFileSync(new URL("../fixtures/requests/uploads.json", import.meta.url), "utf8"),
) as Record<"image" | "video", Capture>;

const FILES = { image: fakePng(2_000_000, "captured"), video: fakeMp4(200_024, "captured") };
const MIME = { image: "image/png", video: "video/mp4" };

let simulator: Simulator;
let home: Home;

withMachine((...given) => ([simulator, home] = given), { identityGate: "off" });

function form(record: RequestRecord): Part[] {
  const read = readMultipart(record.headers["content-type"] ?? "", record.rawBody);
  assert.ok("parts" in read, "problem" in read ? read.problem : "");
  return read.parts.map(({ name, filename, contentType, bytes }) =>
    filename === undefined
      ? { name, value: bytes.toString("utf8"), ...(contentType === undefined ? {} : { contentType }) }
      : { name, filename, ...(contentType === undefined ? {} : { contentType }) },
  );
}

/** The captured part of the request, with `filename` in place of the official one. */
function compare(record: RequestRecord | undefined, expected: Capture, filename: string): void {
  assert.ok(record);
  const { headers } = record;
  assert.deepEqual(
    {
      method: record.method,
      path: record.path,
      accept: headers["accept"],
      contentType: headers["content-type"]?.split(";")[0],
      authorization: headers["authorization"]?.split(" ")[0]?.toLowerCase(),
      parts: form(record),
    },
    {
      method: expected.method,
      path: expected.path,
      accept: expected.accept,
      contentType: expected.contentType,
      authorization: expected.authorization,
      parts: expected.parts.map((part) => (part.filename === undefined ? part : { ...part, filename })),
    },
  );
  assert.equal(headers["content-length"], String(record.rawBody.length));
  assert.equal(headers["transfer-encoding"], undefined);
}

for (const kind of ["image", "video"] as const) {
  describe(kind, () => {
    const official = captured[kind].parts[0]?.filename ?? "";

    test("official client: an image of a turn, without a name → same form, same reference", async () => {
      const part = { type: kind, mimeType: MIME[kind], data: FILES[kind].toString("base64") };
      const { message } = await runOne(addon(), {
        baseUrl: simulator.baseUrl,
        apiKey: simulator.apiKey,
        env: { HOME: home.home },
        context: { messages: [{ role: "user", content: [part], timestamp: 1 }] },
      });
      assert.equal(message.stopReason, "stop", message.errorMessage);
      const [upload, chat] = simulator.requests;
      compare(upload, captured[kind], `upload${extname(official)}`);
      const { messages } = bodyOf<{ messages: { content: object[] }[] }>(chat);
      const id = simulator.files.all.at(-1)?.id ?? "";
      const expected = JSON.stringify(captured[kind].reference).replaceAll(/(?<=ms:\/\/|"id":")[0-9a-f]+/g, id);
      assert.equal(JSON.stringify(messages.at(-1)?.content[0]), expected);
    });

    test("official client: a file by path → its own name", async () => {
      const path = join(home.cwd, official);
      writeFileSync(path, FILES[kind]);
      const kimi = new Kimi({ baseUrl: simulator.baseUrl, apiKey: simulator.apiKey, env: { HOME: home.home } });
      const { known } = await kimi.files.upload(path, { again: true });
      assert.equal(known, false);
      compare(simulator.requests[0], captured[kind], official);
    });
  });
}
