/** `kimi.files.upload`: sources, results, errors, progress and abort. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { openAsBlob, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { pathToFileURL } from "node:url";
import { type FileSource, Kimi, KimiError, type UploadOptions } from "../../index.ts";
import { type Simulator, startSimulator } from "../simulator/index.ts";
import { Machine } from "../support/account.ts";
import { bodyOf, Home } from "../support/pi.ts";
import { fakeMp4, fakePng } from "../support/sample-media.ts";
import { answerRequests } from "../support/simulator.ts";

let simulator: Simulator;
let home: Home;
let kimi: Kimi;

before(async () => {
  simulator = await startSimulator({ identityGate: "off" });
});
after(() => simulator.close());
beforeEach(() => {
  simulator.reset();
  home = new Home();
  kimi = client();
});
afterEach(() => home.remove());

function client(apiKey = simulator.apiKey): Kimi {
  const env = { HOME: home.home, PI_CODING_AGENT_DIR: home.agent, KIMI_CODE_HOME: join(home.home, ".kimi-code") };
  return new Kimi({ baseUrl: simulator.baseUrl, apiKey, env });
}

const uploads = (): number => simulator.requests.filter(({ endpoint }) => endpoint === "files").length;

async function failure(file: FileSource, options?: UploadOptions): Promise<KimiError> {
  const error: unknown = await kimi.files.upload(file, options).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof KimiError, `a KimiError, not ${String(error)}`);
  return error;
}

/** The bytes behind seven others. */
function withMargin(bytes: Buffer): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.concat([Buffer.alloc(7), bytes]));
}

function sharedBytes(bytes: Buffer): Uint8Array {
  const shared = new Uint8Array(new SharedArrayBuffer(bytes.length));
  shared.set(bytes);
  return shared;
}

describe("upload", () => {
  const sources: [string, (path: string, bytes: Buffer) => FileSource][] = [
    ["a path", (path) => path],
    ["a file: URL", (path) => pathToFileURL(path)],
    ["a Buffer", (_, bytes) => bytes],
    ["a view into a larger buffer", (_, bytes) => withMargin(bytes).subarray(7)],
    ["a DataView of a larger buffer", (_, bytes) => new DataView(withMargin(bytes).buffer, 7, bytes.length)],
    ["shared memory", (_, bytes) => sharedBytes(bytes)],
    ["an ArrayBuffer", (_, bytes) => new Uint8Array(bytes).buffer],
    ["a Blob", (_, bytes) => new Blob([new Uint8Array(bytes)], { type: "image/jpeg" })],
  ];
  for (const [name, source] of sources) {
    test(`upload: ${name} → arrives complete with its type`, async () => {
      const bytes = fakePng(3_000_001, name);
      const path = join(home.cwd, "picture.png");
      writeFileSync(path, bytes);
      const file = await kimi.files.upload(source(path, bytes));
      const [stored] = simulator.files.all;
      const filename = name === "a path" || name === "a file: URL" ? "picture.png" : "upload.png";
      assert.deepEqual(file, {
        id: stored?.id,
        url: `ms://${stored?.id}`,
        purpose: "image",
        mimeType: "image/png",
        filename,
        bytes: bytes.length,
        known: false,
      });
      assert.equal(stored?.sha256, createHash("sha256").update(bytes).digest("hex"));
      assert.deepEqual([stored?.filename, stored?.mime, stored?.purpose], [filename, "image/png", "image"]);
    });
  }

  test("upload: a view of wider numbers → its bytes arrive", async () => {
    const bytes = withMargin(fakePng(2_000_001, "wide")).slice(7);
    const even = bytes.slice(0, 2_000_000);
    await kimi.files.upload(new Uint16Array(even.buffer));
    assert.equal(simulator.files.all[0]?.sha256, createHash("sha256").update(even).digest("hex"));
  });

  test("media type: a video with an image MIME type → is uploaded as video", async () => {
    const { purpose, mimeType } = await kimi.files.upload(fakeMp4(1000, "video"), { mimeType: "image/png" });
    assert.deepEqual([purpose, mimeType], ["video", "video/mp4"]);
  });

  test("upload: the same content in several forms and clients → one upload", async () => {
    const once = fakePng(1_200_000, "once");
    const [first, second] = await Promise.all([
      kimi.files.upload(once),
      kimi.files.upload(new Blob([new Uint8Array(once)])),
    ]);
    assert.equal(first.id, second.id);
    const third = await client().files.upload(once);
    assert.deepEqual([third.id, third.known], [first.id, true]);
    simulator.enqueue({ steps: [{ text: "A picture." }] });
    const inline = { type: "image", mimeType: "image/png", data: once.toString("base64") } as const;
    await kimi.chat([{ role: "user", content: [inline] }]).final();
    assert.equal(uploads(), 1, "a chat with the same image refers to it");
    assert.match(answerRequests(simulator).at(-1)?.rawBody.toString() ?? "", new RegExp(first.url));
  });

  test("upload: again after the service lost the file → a new id, which is kept", async () => {
    const bytes = fakePng(1000, "again");
    const first = await kimi.files.upload(bytes);
    simulator.files.clear();
    const second = await kimi.files.upload(bytes, { again: true });
    assert.notEqual(second.id, first.id);
    assert.deepEqual((await kimi.files.upload(bytes)).id, second.id);
  });

  test("upload: another account → its own file", async () => {
    simulator.credentials.add("sk-other");
    const bytes = fakePng(1000, "accounts");
    const [mine, theirs] = [await kimi.files.upload(bytes), await client("sk-other").files.upload(bytes)];
    assert.notEqual(mine.id, theirs.id);
    assert.equal(theirs.known, false);
  });
});

test("messages: uploaded image and video → are referenced by id", async () => {
  const image = await kimi.files.upload(fakePng(1000, "referred"));
  const video = await kimi.files.upload(fakeMp4(1000, "referred"));
  simulator.enqueue({ steps: [{ text: "Both." }] });
  const content = [
    { type: "image_url", image_url: { url: image.url } },
    { type: "video_url", video_url: { url: video.url } },
  ] as const;
  assert.equal(await kimi.chat([{ role: "user", content }]).text(), "Both.");
  const { messages } = bodyOf<{ messages: { content: { image_url?: object; video_url?: object }[] }[] }>(
    answerRequests(simulator).at(-1),
  );
  const [first, second] = messages.at(-1)?.content ?? [];
  assert.match(JSON.stringify([first?.image_url, second?.video_url]), new RegExp(`${image.url}.*${video.url}`));
});

describe("upload errors", () => {
  const cases: [string, () => FileSource, UploadOptions, string, RegExp][] = [
    ["a PDF", () => Buffer.from("%PDF-1.7"), {}, "bad_media", /it is a PDF, which Kimi does not take/],
    ["nothing", () => new Uint8Array(), {}, "bad_media", /it has no data/],
    ["bytes without a type", () => Buffer.from("????"), {}, "bad_media", /nothing tells its type/],
    [
      "another type than asked for",
      () => fakePng(100),
      { purpose: "video" },
      "bad_media",
      /image\/png, which is not a video/,
    ],
    ["too much", () => fakeMp4(101 * 1024 * 1024), {}, "bad_media", /Kimi takes at most 104\.8 MB/],
    [
      "a URL of another machine",
      () => new URL("file://host/x.png"),
      {},
      "bad_request",
      /the file: URL names no path: /,
    ],
    ["a path to nothing", () => join(home.cwd, "absent.png"), {}, "io", /absent\.png cannot be read/],
    ["a folder", () => home.cwd, {}, "io", /it is no file but a folder, pipe, device or kernel interface/],
  ];
  for (const [name, file, options, code, text] of cases) {
    test(name, async () => {
      const error = await failure(file(), options);
      assert.deepEqual([error.code, uploads()], [code, 0]);
      assert.match(error.message, text);
    });
  }

  test("upload errors: a Blob whose file is gone → io", async () => {
    const path = join(home.cwd, "gone.png");
    writeFileSync(path, fakePng(1000, "gone"));
    const blob = await openAsBlob(path);
    rmSync(path);
    const error = await failure(blob);
    assert.deepEqual([error.code, uploads()], ["io", 0]);
    assert.match(error.message, /^the file cannot be read: /);
  });

  test("upload errors: the service answers 413 → code and status", async () => {
    simulator.intercept("files", { status: 413, body: { error: { message: "Request exceeds the maximum size" } } });
    const error = await failure(fakePng(1000, "413"));
    assert.deepEqual([error.code, error.status], ["payload_too_large", 413]);
  });

  test("upload errors: a refused key → unauthorized", async () => {
    const refusal = { status: 401, body: { error: { message: "The API Key appears to be invalid", type: "x" } } };
    simulator.intercept("files", refusal);
    assert.equal((await failure(fakePng(1000, "401"))).code, "unauthorized");
  });
});

test("upload: a transient failure → is retried; a rotated token → is refreshed", async () => {
  simulator.intercept("files", { status: 503, headers: { "retry-after-ms": "10" } });
  assert.equal((await kimi.files.upload(fakePng(1000, "503"))).known, false);
  assert.equal(uploads(), 2);
  simulator.reset();
  const machine = new Machine(simulator);
  try {
    machine.kimiLogin(simulator.oauth.login(), 900);
    const { KIMI_CODE_BASE_URL = "", KIMI_CODE_OAUTH_HOST = "" } = machine.variables();
    const env = { HOME: machine.home, PI_CODING_AGENT_DIR: machine.agent, KIMI_CODE_BASE_URL, KIMI_CODE_OAUTH_HOST };
    simulator.intercept("files", { status: 401, body: { error: { message: "token expired", type: "x" } } });
    assert.equal((await new Kimi({ env }).files.upload(fakePng(1000, "401 healed"))).known, false);
    assert.equal(simulator.oauth.refreshes, 1);
  } finally {
    machine.remove();
  }
});

describe("progress and abort", () => {
  test("progress: an upload → ends with all bytes; a known file → none", async () => {
    simulator.intercept("files", { delayMs: 350 });
    const bytes = fakePng(2_000_000, "progress");
    const told: { sent: number; total: number }[] = [];
    await kimi.files.upload(bytes, { onProgress: (progress) => void told.push(progress) });
    assert.deepEqual(told.at(-1), { sent: bytes.length, total: bytes.length });
    assert.ok(told.every(({ sent, total }) => sent > 0 && total === bytes.length));
    told.length = 0;
    await kimi.files.upload(bytes, { onProgress: (progress) => void told.push(progress) });
    assert.deepEqual(told, [], "it was known");
  });

  test("progress: a throwing callback → ends the upload with that error", async () => {
    simulator.intercept("files", { hang: "connect" });
    const thrown = new Error("enough");
    const onProgress = (): never => {
      throw thrown;
    };
    await assert.rejects(kimi.files.upload(fakePng(2_000_000, "thrower"), { onProgress }), (error) => error === thrown);
    await simulator.waitForRequest(({ endpoint, aborted }) => endpoint === "files" && aborted);
  });

  test("abort: before and during an upload → cancelled, connection closed", async () => {
    const early = await failure(fakePng(1000, "early"), { signal: AbortSignal.abort("no") });
    assert.deepEqual([early.name, early.code, early.cause], ["AbortError", "cancelled", "no"]);
    assert.equal(uploads(), 0);
    simulator.intercept("files", { hang: "connect" });
    const abort = new AbortController();
    const running = failure(fakePng(2_000_000, "aborted"), { signal: abort.signal });
    const record = await simulator.waitForRequest(({ endpoint }) => endpoint === "files");
    abort.abort();
    assert.equal((await running).code, "cancelled");
    await simulator.waitForRequest(({ id, aborted }) => id === record.id && aborted);
  });
});
