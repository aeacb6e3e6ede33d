/** Images and videos on their way to the service: what is uploaded, what stays inline, and what a failure does. */
import assert from "node:assert/strict";
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { AssistantMessage } from "@earendil-works/pi-ai";
import { Notices } from "../../extension/turn/notices.ts";
import type { TurnOptions } from "../../extension/turn/request.ts";
import { type RequestRecord, type Simulator, startSimulator } from "../simulator/index.ts";
import { withMachine } from "../support/account.ts";
import { Home } from "../support/pi.ts";
import { fakeMp4, fakePng } from "../support/sample-media.ts";
import { addon, runOne } from "../support/turn.ts";
import { answerRequests } from "../support/simulator.ts";

const MIB = 1024 * 1024;
const native = addon();
let simulator: Simulator;
let home: Home;

withMachine((...given) => ([simulator, home] = given));

interface Part {
  type: string;
  [member: string]: unknown;
}

function image(bytes: Buffer, mimeType = "image/png"): Part {
  return { type: "image", mimeType, data: bytes.toString("base64") };
}

function user(...parts: Part[]): object {
  return { role: "user", content: parts, timestamp: 1 };
}

const CALL = {
  role: "assistant",
  provider: "kimi-coding",
  model: "kimi-for-coding",
  api: "kimi-code-native",
  stopReason: "toolUse",
  content: [{ type: "toolCall", id: "c1", name: "read", arguments: {} }],
  timestamp: 2,
};

/** Runs a turn to its end. */
async function turn(
  messages: object[],
  options: TurnOptions = {},
  id = "kimi-for-coding",
  notices = new Notices(),
): Promise<AssistantMessage> {
  const { baseUrl, apiKey } = simulator;
  const env = { HOME: home.home, PI_CODING_AGENT_DIR: home.agent };
  return (await runOne(native, { baseUrl, apiKey, env, options, id, notices, context: { messages } })).message;
}

function sent(endpoint: string): RequestRecord[] {
  return simulator.requests.filter((record) => record.endpoint === endpoint);
}

function uploads(): RequestRecord[] {
  return sent("files");
}

/** The parts of one message of the last request. */
function parts(at = -1): Part[] {
  const record = answerRequests(simulator).at(-1);
  const { messages } = (record?.json ?? { messages: [] }) as unknown as { messages: { content: Part[] }[] };
  return messages.at(at)?.content ?? [];
}

/** What replaces the media of a message: `data:…` heads and `ms://…`, in order. */
function urls(list: Part[]): string[] {
  return list.flatMap((part): string[] => {
    const nested = part["content"];
    if (Array.isArray(nested)) return urls(nested as Part[]);
    const value = (part["image_url"] ?? part["video_url"] ?? part["source"]) as
      | { url?: string; media_type?: string }
      | undefined;
    if (value === undefined) return [];
    return [value.url === undefined ? `data:${value.media_type}` : value.url.replace(/;base64.*/s, "")];
  });
}

function token(sub: string, serial: number): string {
  const payload = Buffer.from(JSON.stringify({ sub, serial })).toString("base64url");
  const value = `eyJhbGciOiJub25lIn0.${payload}.x`;
  simulator.credentials.add(value);
  return value;
}

for (const dialect of ["openai", "anthropic"]) {
  const options = (more: TurnOptions = {}): TurnOptions => ({
    ...more,
    env: { KIMI_CODE_PROTOCOL: dialect, ...more.env },
  });
  const ask = (messages: object[], more: TurnOptions = {}): Promise<AssistantMessage> => turn(messages, options(more));

  describe(`uploads, ${dialect}`, () => {
    test("image above the threshold → uploaded; at the threshold → inline", async () => {
      const [small, large] = [fakePng(MIB, `small ${dialect}`), fakePng(MIB + 1, `large ${dialect}`)];
      assert.equal((await ask([user(image(small), image(large), { type: "text", text: "?" })])).stopReason, "stop");
      const [file] = simulator.files.all;
      assert.equal(simulator.files.all.length, 1);
      assert.deepEqual(
        [file?.filename, file?.mime, file?.purpose, file?.bytes],
        ["upload.png", "image/png", "image", MIB + 1],
      );
      const [first, second] = parts();
      if (dialect === "openai") {
        assert.deepEqual(first?.["image_url"], { url: `data:image/png;base64,${small.toString("base64")}` });
        assert.deepEqual(second?.["image_url"], { url: `ms://${file?.id}`, id: file?.id });
      } else {
        assert.deepEqual(first?.["source"], {
          type: "base64",
          media_type: "image/png",
          data: small.toString("base64"),
        });
        assert.deepEqual(second?.["source"], { type: "url", url: `ms://${file?.id}` });
      }
    });

    test("uploaded file → complete, with the identity and credential of the chat", async () => {
      const bytes = fakePng(MIB * 2 + 2, `whole ${dialect}`);
      await ask([user(image(bytes))]);
      const [record] = uploads();
      const { createHash } = await import("node:crypto");
      assert.equal(simulator.files.all[0]?.sha256, createHash("sha256").update(bytes).digest("hex"));
      const chat = sent(dialect === "openai" ? "chat" : "messages")[0];
      assert.equal(record?.headers["user-agent"], chat?.headers["user-agent"]);
      assert.equal(record?.headers["authorization"], chat?.headers["authorization"]);
      assert.equal(record?.headers["content-length"], String(record?.rawBody.length));
      const names = [...(record?.rawBody.toString("latin1") ?? "").matchAll(/name="(file|purpose)"/g)].map((m) => m[1]);
      assert.deepEqual(names, ["file", "purpose"]);
    });

    test("image in a tool result → uploaded", async () => {
      const result = { role: "toolResult", toolCallId: "c1", toolName: "read", isError: false, timestamp: 3 };
      const content = [{ type: "text", text: "see" }, image(fakePng(MIB * 2, `tool ${dialect}`))];
      const message = await ask([user({ type: "text", text: "read" }), CALL, { ...result, content }]);
      assert.equal(message.stopReason, "stop", message.errorMessage);
      assert.deepEqual(urls(parts()), [`ms://${simulator.files.all[0]?.id}`]);
    });

    test("videos of any size, also as video_url → uploaded", async () => {
      const video = fakeMp4(300, `video ${dialect}`);
      const data = `data:video/mp4;base64,${fakeMp4(400, `url ${dialect}`).toString("base64")}`;
      const message = await ask([
        user(
          { type: "video", mimeType: "video/mp4", data: video.toString("base64") },
          image(fakeMp4(500, `disguised ${dialect}`), "image/png"),
          { type: "video_url", video_url: { url: data } },
        ),
      ]);
      assert.equal(message.stopReason, "stop", message.errorMessage);
      const purposes = simulator.files.all.map(({ purpose, filename, mime }) => `${purpose} ${filename} ${mime}`);
      assert.deepEqual(
        purposes,
        Array.from({ length: 3 }, () => "video upload.mp4 video/mp4"),
      );
      assert.deepEqual(urls(parts()).sort(), simulator.files.all.map(({ id }) => `ms://${id}`).sort());
      assert.deepEqual(
        parts().map(({ type }) => type),
        Array.from({ length: 3 }, () => (dialect === "openai" ? "video_url" : "video")),
      );
    });

    test("file references and web addresses → untouched", async () => {
      const [known] = [
        simulator.files.add({
          account: simulator.apiKey,
          purpose: "image",
          filename: "a",
          mime: "image/png",
          bytes: 1,
          sha256: "",
        }),
      ];
      await ask([
        user(
          { type: "image_url", image_url: { url: `ms://${known?.id}` } },
          { type: "image_url", image_url: "https://example.com/a.png" },
        ),
      ]);
      assert.deepEqual(urls(parts()), [`ms://${known?.id}`, "https://example.com/a.png"]);
      assert.equal(uploads().length, 0);
    });

    test("body above the budget → the largest images are uploaded first", async () => {
      const sizes = [0.9, 0.5, 0.8, 0.7, 0.6, 0.9, 0.9, 0.4, 0.9, 0.9].map((size) => Math.floor(size * MIB));
      await ask([user(...sizes.map((size, at) => image(fakePng(size, `budget${at} ${dialect}`))))]);
      const record = sent(dialect === "openai" ? "chat" : "messages")[0];
      assert.ok((record?.rawBody.length ?? Infinity) <= 8 * MIB, String(record?.rawBody.length));
      assert.deepEqual(
        simulator.files.all.map(({ bytes }) => bytes),
        [sizes[0], sizes[5]],
      );
    });
  });

  describe(`uploads are reused, ${dialect}`, () => {
    test("ten turns → ten images are uploaded once, and their references stay", async () => {
      const images = Array.from({ length: 10 }, (_, at) => image(fakePng(1_500_000, `ten${at} ${dialect}`)));
      const history: object[] = [user({ type: "text", text: "look" }, ...images)];
      let first: string[] = [];
      for (let round = 0; round < 10; round += 1) {
        // Access tokens live 15 minutes.
        const answer = await ask(history, { apiKey: token(`ten ${dialect}`, round) });
        assert.equal(answer.stopReason, "stop", answer.errorMessage);
        if (round === 0) first = urls(parts(0));
        assert.deepEqual(urls(parts(0)), first);
        history.push(answer, user({ type: "text", text: `again ${round}` }));
      }
      assert.equal(uploads().length, 10);
      assert.ok(uploads().reduce((sum, { rawBody }) => sum + rawBody.length, 0) < 10 * 1_501_000);
      assert.ok(sent(dialect === "openai" ? "chat" : "messages").every(({ rawBody }) => rawBody.length < 10_000));
    });

    test("new token of the same account → reused; another account → uploaded again", async () => {
      const picture = (): Part => image(fakePng(2 * MIB, `rotation ${dialect}`));
      const seen: string[] = [];
      for (const key of [token("u1", 1), token("u1", 2), token("u2", 1), simulator.apiKey]) {
        await ask([user(picture())], { apiKey: key });
        seen.push(...urls(parts()));
      }
      assert.equal(seen[0], seen[1]);
      assert.equal(new Set(seen).size, 3);
      assert.deepEqual(
        simulator.files.all.map(({ account }) => account),
        ["u1", "u2", simulator.apiKey],
      );
    });

    test("the same image in several places and turns at once → one upload", async () => {
      simulator.intercept("files", { delayMs: 150 });
      const picture = (): Part => image(fakePng(2 * MIB, `same ${dialect}`));
      await Promise.all([ask([user(picture(), picture())]), ask([user(picture())]), ask([user(picture())])]);
      assert.equal(uploads().length, 1);
    });

    test("several ids lost by the service → all replaced within one turn", async () => {
      const history = [user(...[1, 2, 3].map((at) => image(fakePng(2 * MIB, `all lost ${at} ${dialect}`))))];
      await ask(history);
      simulator.files.clear();
      const answer = await ask(history);
      assert.equal(answer.stopReason, "stop", answer.errorMessage);
      assert.equal(simulator.files.all.length, 3);
    });

    test("one id lost by the service → replaced once, and the new one is kept", async () => {
      const history = [user(image(fakePng(2 * MIB, `lost ${dialect}`)), image(fakePng(3 * MIB, `kept ${dialect}`)))];
      await ask(history);
      const [lost, kept] = urls(parts());
      simulator.files.remove(lost?.slice(5) ?? "");
      const answer = await ask(history);
      assert.equal(answer.stopReason, "stop", answer.errorMessage);
      const [renewed, same] = urls(parts());
      assert.notEqual(renewed, lost);
      assert.equal(same, kept);
      await ask(history);
      assert.deepEqual(urls(parts()), [renewed, kept]);
      assert.equal(uploads().length, 3);
    });
  });
}

describe("unusual media", () => {
  test("MIME type and bytes disagree → the bytes decide", async () => {
    await turn([user(image(fakePng(2 * MIB, "liar"), "image/jpeg"), image(fakePng(100, "liar2"), "image/svg+xml"))]);
    assert.deepEqual([simulator.files.all[0]?.mime, simulator.files.all[0]?.filename], ["image/png", "upload.png"]);
    assert.equal(urls(parts())[1], "data:image/png");
  });

  test("HEIC and BMP → sent as they are", async () => {
    const heic = Buffer.concat([Buffer.from("000000186674797068656963", "hex"), Buffer.alloc(2 * MIB)]);
    await turn([user(image(heic, "image/heic"), image(Buffer.from("BM\x10\0\0\0\0\0\0\0zz", "latin1"), "image/bmp"))]);
    assert.equal(simulator.files.all[0]?.mime, "image/heic");
    assert.equal(urls(parts())[1], "data:image/bmp");
  });

  test("data that is no image → replaced by a note in its place", async () => {
    const data = (text: string, mimeType: string): Part => ({ type: "image", mimeType, data: text });
    const answer = await turn([
      user(
        image(Buffer.from("%PDF-1.7 …"), "application/pdf"),
        image(Buffer.from("<svg xmlns='http://www.w3.org/2000/svg'/>"), "image/svg+xml"),
        data("this is no base64!", "image/png"),
        data("", "image/png"),
        data("AAAAA", "image/png"),
        image(Buffer.alloc(5), "application/octet-stream"),
      ),
    ]);
    assert.equal(answer.stopReason, "stop", answer.errorMessage);
    assert.deepEqual(
      parts().map(({ text }) => text),
      [
        "(image omitted: it is a PDF, which Kimi does not take)",
        "(image omitted: it is SVG, which Kimi does not take)",
        "(image omitted: its data is not base64)",
        "(image omitted: it has no data)",
        "(image omitted: its data is not base64)",
        '(image omitted: Kimi does not take "application/octet-stream")',
      ],
    );
  });

  test("data URLs with parameters, base64 with line breaks or without padding → read", async () => {
    const base64 = fakePng(2 * MIB, "forms").toString("base64");
    const forms = [
      { type: "image_url", image_url: { url: `data:image/png;charset=utf-8;base64,${base64}` } },
      { type: "image", mimeType: "image/png", data: base64.replace(/(.{76})/g, "$1\r\n") },
      { type: "image", mimeType: "image/png", data: base64.replace(/=+$/, "") },
    ];
    await turn([user(...forms)]);
    assert.equal(uploads().length, 1);
    assert.equal(new Set(urls(parts())).size, 1);
  });

  test("video of 200 MB → replaced by a note", async () => {
    const answer = await turn([user(image(fakeMp4(200 * MIB), "video/mp4"))]);
    assert.equal(answer.stopReason, "stop", answer.errorMessage);
    assert.match(JSON.stringify(parts()), /image omitted: it is 209\.7 MB, Kimi takes at most 104\.8 MB/);
    assert.equal(uploads().length, 0);
  });

  test("image replaced within its object → treated as another image", async () => {
    const part = image(fakePng(2 * MIB, "before"));
    await turn([user(part)]);
    part["data"] = fakePng(2 * MIB, "after").toString("base64");
    await turn([user(part)]);
    assert.equal(new Set(simulator.files.all.map(({ sha256 }) => sha256)).size, 2);
    assert.deepEqual(urls(parts()), [`ms://${simulator.files.all[1]?.id}`]);
  });
});

test("video for a model without video input → replaced by a note", async () => {
  const answer = await turn([user(image(fakeMp4(300, "blind"), "video/mp4"))], {}, "k3-256k");
  assert.equal(answer.stopReason, "stop", answer.errorMessage);
  assert.match(JSON.stringify(parts()), /video omitted: model does not support videos/);
  assert.equal(uploads().length, 0);
});

describe("failing uploads", () => {
  const picture = (seed: string, bytes = 2 * MIB): object => user(image(fakePng(bytes, seed)));

  test("transient failure → retried with the same bytes", async () => {
    simulator.intercept(
      "files",
      { status: 503, headers: { "retry-after-ms": "10" } },
      { status: 429, headers: { "retry-after-ms": "10" } },
    );
    const answer = await turn([picture("again")]);
    assert.equal(answer.stopReason, "stop", answer.errorMessage);
    const sizes = uploads().map(({ rawBody }) => rawBody.length);
    assert.deepEqual(
      sizes,
      Array.from({ length: 3 }, () => sizes[0]),
    );
    assert.match(urls(parts())[0] ?? "", /^ms:/);
  });

  for (const status of [413, 404, 400]) {
    test(`${status} → sent inline`, async () => {
      simulator.intercept("files", { status, body: { error: { message: "no" } } });
      const answer = await turn([picture(`refused${status}`)]);
      assert.equal(answer.stopReason, "stop", answer.errorMessage);
      assert.deepEqual(urls(parts()), ["data:image/png"]);
      assert.equal(uploads().length, 1);
    });
  }

  test("too large for inline as well → the error names file, size and reason", async () => {
    simulator.intercept("files", { status: 413, body: { error: { message: "Request exceeds the maximum size" } } });
    const env = { KIMI_CODE_INLINE_LIMIT_BYTES: String(MIB) };
    const answer = await turn([picture("huge", 3 * MIB)], { env });
    assert.equal(answer.stopReason, "error");
    assert.match(
      answer.errorMessage ?? "",
      /image \(image\/png, 3\.1 MB\) could not be uploaded and is too large to be sent inline: 413 Request exceeds/,
    );
    assert.equal(sent("chat").length, 0);
  });

  test("refused credential → an error, never sent inline", async () => {
    const refusal = { status: 401, body: { error: { message: "The API Key appears to be invalid", type: "x" } } };
    simulator.intercept("files", refusal, refusal, refusal);
    const answer = await turn([picture("secret")]);
    assert.equal(answer.stopReason, "error");
    assert.match(answer.errorMessage ?? "", /401 The API Key appears to be invalid/);
    assert.equal(sent("chat").length, 0);
  });

  test("answer without a usable id → treated as a failure", async () => {
    const answers = [{ id: "" }, { id: "../../x" }, { object: "file" }].map((body) => ({ status: 200, body }));
    simulator.intercept("files", ...answers);
    await turn([picture("idless")]);
    assert.deepEqual(urls(parts()), ["data:image/png"]);
  });

  test("no answer → ends by its timeout", async () => {
    simulator.intercept("files", { hang: "connect" }, { hang: "connect" });
    const answer = await turn([picture("silent")], { env: { KIMI_CODE_UPLOAD_TIMEOUT_MS: "1000" } });
    assert.equal(answer.stopReason, "stop", answer.errorMessage);
    assert.deepEqual(urls(parts()), ["data:image/png"]);
    assert.equal(uploads().length, 2);
  });

  test("abort during an upload → ends turn and connection, and the next turn uploads", async () => {
    simulator.intercept("files", { hang: "connect" });
    const abort = new AbortController();
    const history = [picture("aborted", 3 * MIB)];
    const running = turn(history, { signal: abort.signal });
    const record = await simulator.waitForRequest(({ endpoint }) => endpoint === "files");
    abort.abort();
    assert.equal((await running).stopReason, "aborted");
    await simulator.waitForRequest(({ id, aborted }) => id === record.id && aborted);
    assert.equal((await turn(history)).stopReason, "stop");
    assert.match(urls(parts())[0] ?? "", /^ms:/);
    assert.equal(uploads().length, 2);
  });

  test("slow upload → shown while it lasts", async () => {
    simulator.intercept("files", { delayMs: 1600 });
    const shown: (string | undefined)[] = [];
    const notices = new Notices();
    notices.attach({ setStatus: (_key, text) => void shown.push(text), notify: () => undefined });
    await turn([picture("slow")], {}, "kimi-for-coding", notices);
    const [first = ""] = shown;
    assert.match(first, /^Kimi: uploading file, \S+ MB of 2\.0 MB \(\d+ %, \S+ [KM]B\/s\)$/);
    const last = /^Kimi: uploading file, 2\.0 MB of 2\.0 MB \(100 %/;
    assert.ok(
      shown.some((text) => last.test(text ?? "")),
      JSON.stringify(shown),
    );
    assert.equal(shown.at(-1), undefined);
  });

  test("many files → at most four at a time", async () => {
    const delays = Array.from({ length: 8 }, () => ({ delayMs: 100 })) as { delayMs: number }[];
    simulator.intercept("files", ...delays);
    await turn([user(...delays.map((_, at) => image(fakePng(2 * MIB, `parallel${at}`))))]);
    assert.equal(uploads().length, 8);
    const travelling = (at: number): number =>
      uploads().filter(({ time, endedAt = Infinity }) => time <= at && at < endedAt).length;
    for (const { time } of uploads()) assert.ok(travelling(time) <= 4, `${travelling(time)} at once`);
  });
});

describe("upload index", () => {
  const root = (): string => join(home.home, ".pi", "pi-provider-kimi-code", "uploads");
  const entries = (): string[] =>
    readdirSync(root(), { recursive: true, encoding: "utf8" })
      .map((name) => join(root(), name))
      .filter((path) => statSync(path).isFile());

  test("entry → one private file per content, nothing that identifies an account", async () => {
    await turn([user(image(fakePng(2 * MIB, "entry")))], { apiKey: token("person@example.com", 1) });
    const [entry, ...more] = entries();
    assert.deepEqual(more, []);
    assert.doesNotMatch(`${entry}${readFileSync(entry ?? "", "utf8")}`, /person|eyJ/);
    if (process.platform !== "win32") assert.equal(statSync(entry ?? "").mode & 0o777, 0o600);
  });

  test("file in place of the folder → uploads still work", async () => {
    mkdirSync(join(root(), ".."), { recursive: true });
    writeFileSync(root(), "not a folder");
    const history = [user(image(fakePng(2 * MIB, "blocked")))];
    await turn(history);
    await turn(history);
    assert.equal(uploads().length, 1);
  });

  test("two services → never share an id", async () => {
    const other = await startSimulator();
    try {
      const history = [user(image(fakePng(2 * MIB, "regions")))];
      await turn(history);
      other.setDefault({ steps: [{ text: "ok" }] });
      await turn(history, { env: { KIMI_CODE_BASE_URL: other.baseUrl } });
      assert.equal(other.files.all.length, 1);
      await turn(history);
      assert.equal(uploads().length, 1);
    } finally {
      await other.close();
    }
  });
});

test("payload hook → sees references, and what it returns is sent", async () => {
  let seen = "";
  await turn([user(image(fakePng(2 * MIB, "hook")))], {
    onPayload: (payload) => {
      seen = JSON.stringify(payload);
      return undefined;
    },
  });
  assert.match(seen, /"ms:\/\/[0-9a-f]+"/);
  assert.ok(seen.length < 2000);
});
