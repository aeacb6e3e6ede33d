/** Images and videos on disk: uploaded once for a session, referred to by results of our tool and by markers in user messages. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { appendFileSync, mkdirSync, renameSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, test } from "node:test";
import type { AssistantMessage } from "@earendil-works/pi-ai";
import { host } from "../../extension/environment.ts";
import { Notices } from "../../extension/turn/notices.ts";
import { type RequestRecord, type Simulator } from "../simulator/index.ts";
import { withMachine } from "../support/account.ts";
import { type Home } from "../support/pi.ts";
import { fakeMp4, realPng } from "../support/sample-media.ts";
import { addon, DIALECTS, type Dialect, runOne } from "../support/turn.ts";
import { answerRequests } from "../support/simulator.ts";

const CHILD = join(import.meta.dirname, "..", "support", "prepare-media-child.ts");

const native = addon();
let simulator: Simulator;
let home: Home;
let project: string;

withMachine((...given) => ([simulator, home] = given));
beforeEach(() => {
  project = join(home.home, "project");
  mkdirSync(project);
});

interface Prepared {
  text: string;
  marker: string;
  details: { kimiMedia: { kind: string; digest: string; path: string } };
  kind: string;
  mimeType: string;
  bytes: number;
  lengthMs: number | null;
  known: boolean;
}

interface Failure {
  code: string;
  message: string;
  status?: number;
}

function request(path: string, more: object = {}): string {
  const environment = {
    HOME: home.home,
    PI_CODING_AGENT_DIR: home.agent,
    KIMI_CODE_BASE_URL: simulator.baseUrl,
    KIMI_CODE_RETRIES: "1",
  };
  return JSON.stringify({ environment, host: host("0.87.1"), apiKey: simulator.apiKey, path, project, ...more });
}

async function outcome(path: string, more: object = {}): Promise<Prepared & { error?: Failure }> {
  return JSON.parse(await native.prepareMedia(request(path, more)).result()) as Prepared & { error?: Failure };
}

async function prepared(path: string, more: object = {}): Promise<Prepared> {
  const result = await outcome(path, more);
  assert.equal(result.error, undefined, JSON.stringify(result.error));
  return result;
}

async function refused(path: string, more: object = {}): Promise<Failure> {
  const { error } = await outcome(path, more);
  assert.ok(error !== undefined, "it is refused");
  return error;
}

/** Writes a video of the project, different for each name. */
function video(name: string, bytes = 300_000): string {
  writeFileSync(join(project, name), fakeMp4(bytes, `${name} ${Math.random()}`));
  return name;
}

function toolMessages({ text, details }: Prepared, tool = "kimi_read_media"): object[] {
  const call = { type: "toolCall", id: "c1", name: tool, arguments: { path: "x" } };
  return [
    { role: "user", content: "what flickers?", timestamp: 1 },
    { role: "assistant", provider: "kimi-coding", stopReason: "toolUse", content: [call], timestamp: 2 },
    {
      role: "toolResult",
      toolCallId: "c1",
      toolName: tool,
      content: [{ type: "text", text }],
      details,
      isError: false,
      timestamp: 3,
    },
  ];
}

async function turn(
  messages: object[],
  { id = "k3", dialect = "openai" as Dialect, notices = new Notices(), apiKey = simulator.apiKey } = {},
): Promise<AssistantMessage> {
  const env = { HOME: home.home, PI_CODING_AGENT_DIR: home.agent };
  const { baseUrl } = simulator;
  return (await runOne(native, { baseUrl, apiKey, env, id, dialect, notices, context: { messages } })).message;
}

function sent(endpoint: string): RequestRecord[] {
  return simulator.requests.filter((record) => record.endpoint === endpoint);
}

const uploads = (): number => sent("files").length;

/** The last chat body. */
function body(at = -1): string {
  return JSON.stringify(answerRequests(simulator).at(at)?.json);
}

const id = (): string => simulator.files.all.at(-1)?.id ?? "none";

describe("media on disk: preparing", () => {
  test("video: prepared twice → one upload with its own bytes, one text, marker and details", async () => {
    const path = video("demo.mp4");
    const first = await prepared(path);
    assert.equal(first.text, "[video demo.mp4, 300 KB]");
    assert.match(first.marker, /^\[video demo\.mp4, 300 KB\]\(kimi-media:video:[\da-f]{64}\)$/);
    assert.equal(first.details.kimiMedia.digest, simulator.files.all[0]?.sha256);
    assert.ok(JSON.stringify(first).length < 1000, "a session grows by less than 1 KB");
    assert.deepEqual([first.kind, first.mimeType, first.bytes, first.known], ["video", "video/mp4", 300_000, false]);
    assert.equal((await prepared(path)).known, true);
    assert.equal(uploads(), 1);
    assert.equal(simulator.files.all[0]?.filename, "demo.mp4");
  });

  test("image: too large to read as text → uploaded in its original form", async () => {
    writeFileSync(join(project, "shot.png"), realPng(400, 300, "shot"));
    const { kind, text } = await prepared("shot.png");
    assert.deepEqual([kind, text], ["image", "[image shot.png, 360 KB]"]);
    assert.equal(simulator.files.all[0]?.purpose, "image");
  });

  test("renamed file: prepared again → known, no second upload", async () => {
    const path = video("old.mp4");
    await prepared(path);
    renameSync(join(project, path), join(project, "new.mp4"));
    const again = await prepared("new.mp4");
    assert.deepEqual([again.known, again.text, uploads()], [true, "[video new.mp4, 300 KB]", 1]);
  });

  test("progress: bytes, percent and rate while it is uploaded", async () => {
    simulator.intercept("files", { delayMs: 900 });
    const call = native.prepareMedia(request(video("slow.mp4", 2_000_000)));
    const result = call.result();
    const texts: (string | null)[] = [];
    for (let round = 0; round < 10; round += 1) {
      await new Promise((resolve) => setTimeout(resolve, 80));
      texts.push(call.progressText());
    }
    await result;
    assert.ok(
      texts.some((text) => /^uploading 2\.0 MB of 2\.0 MB \(100 %, \S+ [KM]B\/s\)$/.test(text ?? "")),
      String(texts),
    );
  });

  test("abort: while uploading → ends within 200 ms and closes the connection", async () => {
    simulator.intercept("files", { delayMs: 30_000 });
    const call = native.prepareMedia(request(video("slow.mp4", 2_000_000)));
    const result = call.result();
    await simulator.waitForRequest(({ endpoint }) => endpoint === "files");
    const began = performance.now();
    call.cancel();
    const { error } = JSON.parse(await result) as { error: Failure };
    assert.equal(error.code, "cancelled");
    assert.ok(performance.now() - began < 200);
  });

  test("twenty processes with the same file at once → one upload", { timeout: 120_000 }, async () => {
    const path = join(project, video("shared.mp4", 1_000_000));
    simulator.intercept("files", { delayMs: 700 });
    const env = home.env({ TEST_URL: simulator.baseUrl, TEST_KEY: simulator.apiKey });
    const run = (): Promise<string> =>
      new Promise((resolve, reject) => {
        const child = spawn(process.execPath, [CHILD, path], { env, stdio: ["ignore", "pipe", "inherit"] });
        let output = "";
        child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text));
        child.on("error", reject).on("close", () => resolve(output));
      });
    const outputs = await Promise.all(Array.from({ length: 20 }, run));
    assert.equal(new Set(outputs).size, 1, `one text for all: ${outputs.join(" ")}`);
    assert.equal(uploads(), 1);
  });
});

describe("media on disk: bad input", () => {
  test("HEVC in MOV → uploaded as what it is; refused by the service → left out, and other videos stay", async () => {
    const head = Buffer.from("\0\0\0\x18ftypqt  \0\0\0\0qt  ....\0\0\0\x10moovhvc1", "latin1");
    writeFileSync(join(project, "hevc.mov"), Buffer.concat([head, fakeMp4(1000, "hevc")]));
    const media = await prepared("hevc.mov");
    assert.deepEqual([media.mimeType, simulator.files.all[0]?.filename], ["video/quicktime", "hevc.mov"]);
    const message = "Invalid request: unsupported video codec: hevc";
    const refusal = { status: 400, body: { error: { message, type: "invalid_request_error" } } };
    simulator.intercept("chat", refusal);
    assert.equal((await turn(toolMessages(media))).stopReason, "stop");
    assert.ok(body().includes("(video left out: the service refused it)") && !body().includes("ms://"), body());
    assert.equal((await turn(toolMessages(await prepared(video("other.mp4"))))).stopReason, "stop");
    assert.ok(body().includes("ms://"), "videos are not refused altogether");
  });

  test("path outside of the project → refused unless the user wrote it", async () => {
    const outside = join(home.home, "outside.mp4");
    writeFileSync(outside, fakeMp4(1000, "outside"));
    assert.match((await refused(outside)).message, /is outside of the project/);
    assert.match((await refused("../outside.mp4")).message, /is outside of the project/);
    symlinkSync(outside, join(project, "link.mp4"));
    assert.match((await refused("link.mp4")).message, /is outside of the project/);
    assert.equal(uploads(), 0);
    assert.equal((await prepared("~/outside.mp4", { allowed: [outside] })).known, false);
  });

  test("folder, pipe, missing and empty file, text called .mp4 → each refused with its reason", async () => {
    mkdirSync(join(project, "folder.mp4"));
    writeFileSync(join(project, "empty.mp4"), "");
    writeFileSync(join(project, "notes.mp4"), "just text");
    const reasons: [string, string, RegExp][] = [
      ["folder.mp4", "io", /it is no file but/],
      ["missing.mp4", "io", /missing\.mp4 cannot be read/],
      ["empty.mp4", "bad_media", /empty\.mp4 cannot be uploaded: it has no data/],
      ["notes.mp4", "bad_media", /notes\.mp4 cannot be uploaded: nothing tells its type/],
    ];
    for (const [path, code, message] of reasons) {
      const error = await refused(path);
      assert.equal(error.code, code, path);
      assert.match(error.message, message);
    }
    assert.equal(uploads(), 0);
  });

  test("video above uploads.videoMaxBytes → refused with the setting's name", async () => {
    writeFileSync(join(project, "huge.mp4"), fakeMp4(1000, "huge"));
    truncateSync(join(project, "huge.mp4"), 4 * 2 ** 30);
    const began = performance.now();
    assert.match((await refused("huge.mp4")).message, /it is 4\.2 GB, and uploads\.videoMaxBytes allows 104\.8 MB/);
    assert.ok(performance.now() - began < 2000, "without reading it");
  });

  test("file that grows while it is uploaded → error, and the service has no such file", async () => {
    const path = video("growing.mp4", 8_000_000);
    simulator.intercept("files", { delayMs: 500 });
    const result = outcome(path);
    const growing = setInterval(() => appendFileSync(join(project, path), "more"), 1);
    const { error, known } = await result;
    clearInterval(growing);
    // The file may have been read completely before it grew.
    if (error === undefined) assert.equal(known, false);
    else assert.match(error.message, /changed while it was read/);
  });

  for (const status of [413, 415, 422, 500])
    test(`upload refused with ${status} → error with the status`, async () => {
      simulator.intercept(
        "files",
        ...Array.from({ length: 3 }, () => ({ status, body: { error: { message: "no thanks" } } })),
      );
      const error = await refused(video("a.mp4", 1000));
      assert.equal(error.status, status);
      assert.match(error.message, /no thanks/);
    });
});

for (const dialect of DIALECTS)
  describe(`media in a conversation, ${dialect}`, () => {
    test("result of our tool → its message holds the file, no upload, no bytes", async () => {
      const media = await prepared(video("demo.mp4"));
      assert.equal((await turn(toolMessages(media), { dialect })).stopReason, "stop");
      assert.ok(body().includes(`ms://${id()}`) && body().includes("[video demo.mp4, 300 KB]"), body());
      assert.ok(!body().includes("base64") && !body().includes("kimiMedia"));
      await turn(toolMessages(media), { dialect });
      assert.equal(body(-1), body(-2), "the same bytes in each turn");
      assert.equal(uploads(), 1);
    });

    test("marker in a user's message → the file beside the text", async () => {
      const media = await prepared(video("demo.mp4"));
      await turn([{ role: "user", content: `what flickers in ${media.marker}?`, timestamp: 1 }], { dialect });
      assert.ok(body().includes(`ms://${id()}`));
      assert.ok(
        body().includes("what flickers in [video demo.mp4, 300 KB]?") && !body().includes("kimi-media:"),
        body(),
      );
    });

    test("forged marker → stays text and uploads nothing", async () => {
      const path = video("secret.mp4");
      const digest = "0".repeat(64);
      const marker = `[video ${path}, 300 KB](kimi-media:video:${digest})`;
      await turn([{ role: "user", content: [{ type: "text", text: `see ${marker}` }], timestamp: 1 }], { dialect });
      assert.ok(body().includes(`see ${marker}`) && !body().includes("ms://"), body());
      assert.equal(uploads(), 0);
    });

    test("marker or details in another tool's result → stay text", async () => {
      const media = await prepared(video("demo.mp4"));
      await turn(toolMessages({ ...media, text: media.marker }, "bash"), { dialect });
      assert.ok(body().includes("kimi-media:video:") && !body().includes("ms://"), body());
    });

    test("another account → the tool's file is uploaded there, a marker stays text", async () => {
      const media = await prepared(video("demo.mp4"));
      const { access: apiKey } = simulator.oauth.login();
      await turn([{ role: "user", content: media.marker, timestamp: 1 }], { dialect, apiKey });
      assert.ok(!body().includes("ms://"));
      assert.equal(uploads(), 1);
      await turn(toolMessages(media), { dialect, apiKey });
      assert.ok(body().includes(`ms://${id()}`));
      assert.equal(uploads(), 2);
    });

    test("id that the service forgot, same file → uploaded again once", async () => {
      const media = await prepared(video("demo.mp4"));
      simulator.files.remove(id());
      const messages = [{ role: "user", content: media.marker, timestamp: 1 }];
      assert.equal((await turn(messages, { dialect })).stopReason, "stop");
      assert.equal(uploads(), 2);
      assert.ok(body().includes(`ms://${id()}`));
      await turn(messages, { dialect });
      assert.equal(uploads(), 2);
    });

    test("id that the service forgot, file changed or gone → text stays, now and in the next turn", async () => {
      const changed = await prepared(video("changed.mp4"));
      const gone = await prepared(video("gone.mp4"));
      for (const file of [...simulator.files.all]) simulator.files.remove(file.id);
      writeFileSync(join(project, "changed.mp4"), fakeMp4(300_000, "something else"));
      rmSync(join(project, "gone.mp4"));
      const messages = [...toolMessages(changed), { role: "user", content: `and ${gone.marker}`, timestamp: 4 }];
      assert.equal((await turn(messages, { dialect })).stopReason, "stop");
      assert.ok(!body().includes("ms://") && body().includes("[video changed.mp4, 300 KB]"), body());
      const requests = sent("chat").length + sent("messages").length;
      await turn(messages, { dialect });
      assert.equal(sent("chat").length + sent("messages").length, requests + 1, "nothing is refused any more");
      assert.equal(uploads(), 2);
    });

    test("model without videos → the text stays", async () => {
      const media = await prepared(video("demo.mp4"));
      assert.equal((await turn(toolMessages(media), { dialect, id: "k3-256k" })).stopReason, "stop");
      assert.ok(!body().includes("ms://") && body().includes("[video demo.mp4, 300 KB]"), body());
    });

    test("model that refuses videos → repeated once with the text, remembered for model and account", async () => {
      const media = await prepared(video("demo.mp4"));
      // Refusals are remembered by the process, so each dialect has a model of its own.
      const model = dialect === "openai" ? "kimi-for-coding" : "kimi-for-coding-highspeed";
      const message = `Invalid request: model ${model} does not support video input`;
      simulator.intercept(dialect === "openai" ? "chat" : "messages", { status: 400, body: { error: { message } } });
      assert.equal((await turn(toolMessages(media), { dialect, id: model })).stopReason, "stop");
      assert.ok(!body().includes("ms://") && body().includes("[video demo.mp4, 300 KB]"), body());
      const requests = answerRequests(simulator).length;
      await turn(toolMessages(media), { dialect, id: model });
      assert.equal(answerRequests(simulator).length, requests + 1, "the next turn asks without videos");
      assert.match((await refused("demo.mp4", { model })).message, /refuses videos for kimi-for-coding/);
      writeFileSync(join(project, "a.png"), realPng(20, 20));
      assert.equal((await prepared("a.png", { model })).kind, "image");
      assert.equal((await prepared("demo.mp4", { model: "k3" })).known, true);
    });
  });
