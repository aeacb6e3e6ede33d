/** Images in real Pi: pasted, attached, read by a tool; over processes, restarts and token rotation. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { Simulator } from "../simulator/index.ts";
import { Home, messages, type PiResult, RpcPi, runPi, textOf } from "../support/pi.ts";
import { withPi } from "../support/with-pi.ts";
import { realPng } from "../support/sample-media.ts";
import { answerRequests } from "../support/simulator.ts";

let simulator: Simulator;
let home: Home;
const open = withPi((...given) => {
  [simulator, home] = given;
  simulator.setDefault({ steps: [{ text: "I see." }] });
});

const MODEL = ["--model", "kimi-coding/kimi-for-coding"];

function env(extra: Record<string, string | undefined> = {}): Record<string, string | undefined> {
  return { KIMI_CODE_BASE_URL: simulator.baseUrl, KIMI_API_KEY: simulator.apiKey, ...extra };
}

/** An image in Pi's working directory: 1.4 MB, small enough that Pi does not resize it. */
function picture(seed: string, name = "picture.png"): string {
  writeFileSync(join(home.cwd, name), realPng(800, 600, seed));
  return name;
}

function print(prompt: string[], extra: Record<string, string | undefined> = {}): Promise<PiResult> {
  return runPi(["-p", "--no-session", ...MODEL, ...prompt], { home, env: env(extra) });
}

function chats(): { text: string; bytes: number }[] {
  return answerRequests(simulator).map(({ rawBody }) => ({ text: rawBody.toString("utf8"), bytes: rawBody.length }));
}

function references(): string[] {
  return chats().flatMap(({ text }) => [...text.matchAll(/"ms:\/\/([^"]+)"/g)].map(([, id]) => id ?? ""));
}

for (const dialect of ["openai", "anthropic"]) {
  describe(`images in real Pi, ${dialect}`, () => {
    const spoken = { KIMI_CODE_PROTOCOL: dialect };

    test("image on the command line → uploaded, reused after a restart", async () => {
      const name = picture(`cli ${dialect}`);
      for (let round = 0; round < 2; round += 1) {
        const result = await print([`@${name}`, "what is this"], spoken);
        assert.deepEqual([result.code, result.stdout.trim()], [0, "I see."], result.stderr);
      }
      assert.equal(simulator.files.all.length, 1);
      assert.equal(simulator.files.all[0]?.purpose, "image");
      const id = simulator.files.all[0]?.id ?? "";
      assert.deepEqual(references(), [id, id]);
      assert.ok(chats().every(({ bytes }) => bytes < 100_000));
    });

    test("image read by a tool → uploaded", async () => {
      const name = picture(`read ${dialect}`);
      simulator.enqueue({ steps: [{ toolCall: { name: "read", arguments: { path: name } } }] });
      const result = await print(["read the picture"], spoken);
      assert.equal(result.stdout.trim(), "I see.", result.stderr);
      assert.deepEqual(references(), [simulator.files.all[0]?.id]);
    });

    test("pasted image → uploaded once, the same file in later turns", async () => {
      const pi = open(["--no-session", ...MODEL], { home, env: env(spoken) });
      const data = realPng(800, 600, `paste ${dialect}`).toString("base64");
      await pi.prompt("look", { images: [{ type: "image", mimeType: "image/png", data }] });
      await pi.prompt("again");
      await pi.prompt("and again");
      assert.equal(simulator.files.all.length, 1);
      const id = simulator.files.all[0]?.id ?? "";
      assert.deepEqual(references(), [id, id, id]);
    });
  });
}

describe("images over several processes", () => {
  test("the same image in two processes at once → uploaded once", async () => {
    const name = picture("race");
    simulator.intercept("files", { delayMs: 1500 });
    const results = await Promise.all([print([`@${name}`, "one"]), print([`@${name}`, "two"])]);
    for (const result of results) assert.equal(result.stdout.trim(), "I see.", result.stderr);
    assert.equal(simulator.requests.filter(({ endpoint }) => endpoint === "files").length, 1);
    assert.equal(new Set(references()).size, 1);
  });

  test("rotated access token → reuses the uploads of the previous one", async () => {
    const name = picture("rotation");
    for (const serial of [1, 2]) {
      const payload = Buffer.from(JSON.stringify({ sub: "u1", serial })).toString("base64url");
      const token = `eyJhbGciOiJub25lIn0.${payload}.x`;
      simulator.credentials.add(token);
      await print([`@${name}`, "what is this"], { KIMI_API_KEY: token });
    }
    assert.equal(simulator.files.all.length, 1);
    assert.equal(new Set(references()).size, 1);
  });

  test("access token without a user id → the same after a 401, a refresh and restarts", async () => {
    const name = picture("nameless");
    simulator.oauth.readable = false;
    const { access, refresh } = simulator.oauth.login();
    const file = join(home.agent, "auth.json");
    const write = (entry: object): void => writeFileSync(file, JSON.stringify({ "kimi-coding": entry }));
    write({ type: "oauth", access, refresh, expires: Date.now() + 900_000 });
    const login = { KIMI_API_KEY: undefined, KIMI_CODE_OAUTH_HOST: simulator.oauthHost };
    const show = async (): Promise<void> => {
      const result = await print([`@${name}`, "what is this"], login);
      assert.equal(result.stdout.trim(), "I see.", result.stderr);
    };
    await show();
    simulator.oauth.revokeAccess();
    await show();
    const { "kimi-coding": entry } = JSON.parse(readFileSync(file, "utf8")) as { "kimi-coding": object };
    write({ ...entry, expires: Date.now() - 1000 });
    await show();
    assert.deepEqual([simulator.oauth.refreshes, simulator.files.all.length], [2, 1]);
    assert.equal(new Set(references()).size, 1);
  });
});

describe("images: what the user sees", () => {
  async function rpc(extra: Record<string, string | undefined> = {}): Promise<RpcPi> {
    const pi = open(["--no-session", ...MODEL], { home, env: env(extra) });
    await pi.command({ type: "get_state" });
    return pi;
  }

  const pasted = (seed: string): object => ({
    images: [{ type: "image", mimeType: "image/png", data: realPng(800, 600, seed).toString("base64") }],
  });

  const statuses = (pi: RpcPi): unknown[] =>
    pi.events
      // The quota has a status line of its own.
      .filter((event) => event["method"] === "setStatus" && /^kimi-code-\d+$/.test(String(event["statusKey"])))
      .map((event) => event["statusText"]);

  test("upload longer than a second → shown, and cleared at its end", async () => {
    const pi = await rpc();
    simulator.intercept("files", { delayMs: 1600 });
    await pi.prompt("look", pasted("slow") as Record<string, unknown>);
    const shown = statuses(pi).filter((text) =>
      /^Kimi: uploading file, 1\.4 MB of 1\.4 MB \(100 %, \S+ [KM]B\/s\)$/.test(String(text)),
    );
    assert.ok(shown.length > 0, JSON.stringify(statuses(pi)));
    assert.equal(statuses(pi).at(-1), undefined);
  });

  test("abort during an upload → the next prompt uploads", async () => {
    const pi = await rpc();
    simulator.intercept("files", { hang: "connect" });
    const running = pi.prompt("look", pasted("aborted") as Record<string, unknown>);
    const record = await simulator.waitForRequest(({ endpoint }) => endpoint === "files", 20_000);
    await pi.command({ type: "abort" });
    const [aborted] = messages(await running);
    assert.equal(aborted?.stopReason, "aborted");
    await simulator.waitForRequest(({ id, aborted }) => id === record.id && aborted);
    const [answer] = messages(await pi.prompt("again"));
    assert.equal(textOf(answer), "I see.");
    assert.deepEqual(references(), [simulator.files.all[0]?.id]);
  });

  test("file lost by the service → uploaded again within the turn, once", async () => {
    const pi = await rpc();
    await pi.prompt("look", pasted("lost") as Record<string, unknown>);
    const [lost] = references();
    simulator.files.clear();
    const [answer] = messages(await pi.prompt("again"));
    assert.equal(textOf(answer), "I see.", answer?.errorMessage);
    await pi.prompt("and again");
    const id = simulator.files.all[0]?.id;
    assert.equal(simulator.files.all.length, 1);
    assert.deepEqual(references(), [lost, lost, id, id]);
  });

  test("upload refused as too large → sent inline, or the error gives the reason", async () => {
    const refusal = { status: 413, body: { error: { message: "Request exceeds the maximum size" } } };
    simulator.intercept("files", refusal);
    const inline = await rpc();
    const [answer] = messages(await inline.prompt("look", pasted("413") as Record<string, unknown>));
    assert.equal(textOf(answer), "I see.", answer?.errorMessage);
    assert.deepEqual(references(), []);
    simulator.intercept("files", refusal);
    const strict = await rpc({ KIMI_CODE_INLINE_LIMIT_BYTES: "1000000" });
    const [failed] = messages(await strict.prompt("look", pasted("413") as Record<string, unknown>));
    assert.match(failed?.errorMessage ?? "", /image \(image\/png, 1\.4 MB\) could not be uploaded and is too large/);
  });
});

test("debug log → names every decision and no credential", async () => {
  writeFileSync(join(home.cwd, "small.png"), realPng(60, 60, "small"));
  for (let round = 0; round < 2; round += 1) {
    await print([`@${picture("log")}`, "@small.png", "what is this"], { KIMI_CODE_DEBUG: "1" });
  }
  const log = readFileSync(join(home.home, ".pi", "pi-provider-kimi-code", "debug.log"), "utf8");
  const line = (bytes: string, decision: string): RegExp =>
    new RegExp(`media content="[0-9a-f]{12}" mime="image/png" bytes=${bytes} decision="${decision}" why=".+"`);
  assert.match(log, line("14\\d{5}", "uploaded"));
  assert.match(log, line("14\\d{5}", "known"));
  assert.match(log, line("1\\d{4}", "inline"));
  assert.ok(!log.includes(simulator.apiKey));
});
