/** Images through real Pi: pasted, attached, read by a tool; over processes, restarts and token rotation. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { type Simulator, startSimulator } from "./simulator/index.ts";
import { Home, type PiResult, RpcPi, runPi } from "./support/pi.ts";
import { realPng } from "./support/pictures.ts";

let simulator: Simulator;
let home: Home;
const open: RpcPi[] = [];

before(async () => {
  simulator = await startSimulator();
});
after(() => simulator.close());
beforeEach(() => {
  simulator.reset();
  simulator.setDefault({ steps: [{ text: "I see." }] });
  home = new Home();
});
afterEach(async () => {
  await Promise.all(open.splice(0).map((pi) => pi.close()));
  home.remove();
});

const MODEL = ["--model", "kimi-coding/kimi-for-coding"];

function env(extra: Record<string, string | undefined> = {}): Record<string, string | undefined> {
  return { KIMI_CODE_BASE_URL: simulator.baseUrl, KIMI_API_KEY: simulator.apiKey, ...extra };
}

/** A picture in Pi's working directory, 1.4 MB, small enough that Pi does not touch it. */
function picture(seed: string, name = "picture.png"): string {
  writeFileSync(join(home.cwd, name), realPng(800, 600, seed));
  return name;
}

function print(prompt: string[], extra: Record<string, string | undefined> = {}): Promise<PiResult> {
  return runPi(["-p", "--no-session", ...MODEL, ...prompt], { home, env: env(extra) });
}

function chats(): { text: string; bytes: number }[] {
  return simulator.requests
    .filter(({ endpoint }) => endpoint === "chat" || endpoint === "messages")
    .map(({ rawBody }) => ({ text: rawBody.toString("utf8"), bytes: rawBody.length }));
}

function references(): string[] {
  return chats().flatMap(({ text }) => [...text.matchAll(/"ms:\/\/([^"]+)"/g)].map(([, id]) => id ?? ""));
}

for (const dialect of ["openai", "anthropic"]) {
  describe(`real Pi, ${dialect}`, () => {
    const spoken = { KIMI_CODE_PROTOCOL: dialect };

    test("a picture on the command line is uploaded, and known after a restart", async () => {
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

    test("a picture that a tool reads is uploaded", async () => {
      const name = picture(`read ${dialect}`);
      simulator.enqueue({ steps: [{ toolCall: { name: "read", arguments: { path: name } } }] });
      const result = await print(["read the picture"], spoken);
      assert.equal(result.stdout.trim(), "I see.", result.stderr);
      assert.deepEqual(references(), [simulator.files.all[0]?.id]);
    });

    test("a pasted picture crosses once and stays the same file over turns", async () => {
      const pi = new RpcPi(["--no-session", ...MODEL], { home, env: env(spoken) });
      open.push(pi);
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

describe("several processes", () => {
  test("two that show the same picture at once upload it once", async () => {
    const name = picture("race");
    simulator.intercept("files", { delayMs: 1500 });
    const results = await Promise.all([print([`@${name}`, "one"]), print([`@${name}`, "two"])]);
    for (const result of results) assert.equal(result.stdout.trim(), "I see.", result.stderr);
    assert.equal(simulator.requests.filter(({ endpoint }) => endpoint === "files").length, 1);
    assert.equal(new Set(references()).size, 1);
  });

  test("a rotated token finds what its predecessor uploaded", async () => {
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
});

test("the debug log names every decision and no credential", async () => {
  await print([`@${picture("log")}`, "what is this"], { KIMI_CODE_DEBUG: "1" });
  const log = readFileSync(join(home.home, ".pi", "pi-provider-kimi-code", "debug.log"), "utf8");
  assert.match(log, /medium content="[0-9a-f]{12}" mime="image\/png" bytes=14\d{5} decision="uploaded"/);
  assert.ok(!log.includes(simulator.apiKey));
});
