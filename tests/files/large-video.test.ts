/** A video of 60 MB in real Pi: uploads, memory, what session and request hold. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { Simulator } from "../simulator/index.ts";
import { type Home, messages, type RpcPi } from "../support/pi.ts";
import { fakeMp4 } from "../support/sample-media.ts";
import { withPi } from "../support/with-pi.ts";

const BYTES = 60_000_000;

/** Goal of 16 MB, and room for what Pi itself allocates meanwhile. The bench measures the goal. */
const MAX_GROWTH_MB = 32;

let simulator: Simulator;
let home: Home;
const open = withPi((...given) => {
  [simulator, home] = given;
  simulator.setDefault({ steps: [{ text: "It flickers." }] });
});

function rpc(...args: string[]): RpcPi {
  const env = { KIMI_CODE_BASE_URL: simulator.baseUrl, KIMI_API_KEY: simulator.apiKey };
  return open(["--model", "kimi-coding/kimi-for-coding", ...args], { home, env });
}

/** A number of megabytes in `/proc/<pid>/status`. */
function megabytes(pi: RpcPi, name: "VmRSS" | "VmHWM"): number {
  const status = readFileSync(`/proc/${pi.pid}/status`, "utf8");
  return Number(new RegExp(`${name}:\\s+(\\d+) kB`).exec(status)?.[1]) / 1024;
}

const uploads = (): number => simulator.requests.filter(({ endpoint }) => endpoint === "files").length;

test("video of 60 MB → one upload over turns and processes; no bytes in session and request", async () => {
  writeFileSync(join(home.cwd, "large.mp4"), fakeMp4(BYTES, "large"));
  const pi = rpc();
  const asked = messages(await pi.prompt("what flickers in @large.mp4 ?"), "user")[0];
  assert.ok(JSON.stringify(asked).length < 1000, "the session grows by less than 1 KB");
  await pi.prompt("and now?");
  await pi.close();
  await rpc("-c").prompt("after a restart");
  await rpc("--no-session").prompt("and @large.mp4 in a second process");
  assert.equal(uploads(), 1);
  const [file] = simulator.files.all;
  assert.equal(file?.bytes, BYTES);
  const bodies = simulator.requests.filter(({ endpoint }) => endpoint === "chat").map(({ rawBody }) => rawBody);
  assert.equal(bodies.length, 4);
  for (const body of bodies) {
    assert.ok(body.includes(`ms://${file.id}`) && !body.includes("base64"));
    assert.ok(body.length < 50_000);
  }
});

test("video of 60 MB → Pi's memory does not grow by it", { skip: process.platform !== "linux" }, async (t) => {
  writeFileSync(join(home.cwd, "small.mp4"), fakeMp4(2_000_000, "small"));
  writeFileSync(join(home.cwd, "large.mp4"), fakeMp4(BYTES, "memory"));
  const pi = rpc("--no-session");
  // The first prompt loads code, and the first upload opens a connection.
  await pi.prompt("what is @small.mp4");
  // Resets the peak (proc(5)).
  writeFileSync(`/proc/${pi.pid}/clear_refs`, "5");
  const before = megabytes(pi, "VmRSS");
  await pi.prompt("what flickers in @large.mp4 ?");
  const growth = megabytes(pi, "VmHWM") - before;
  t.diagnostic(`peak of the memory: ${growth.toFixed(1)} MB more`);
  assert.equal(uploads(), 2);
  assert.ok(growth < MAX_GROWTH_MB, `${growth} MB`);
});
