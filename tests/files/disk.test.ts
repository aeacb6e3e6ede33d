/** The index folder on a full, read-only or forbidden disk: uploads are repeated, turns succeed. */
import assert from "node:assert/strict";
import { spawn, type SpawnOptions } from "node:child_process";
import { chmodSync, mkdirSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { Simulator } from "../simulator/index.ts";
import { withMachine } from "../support/account.ts";
import { Home } from "../support/pi.ts";

const PROGRAM = join(import.meta.dirname, "..", "support", "media-child.ts");
const UNPRIVILEGED = 65534;

let simulator: Simulator;
let home: Home;

withMachine((...given) => ([simulator, home] = given));

const root = (): string => join(home.home, ".pi", "pi-provider-kimi-code", "uploads");
const uploads = (): number => simulator.requests.filter(({ endpoint }) => endpoint === "files").length;

/** Files below the index folder, by size. */
function left(): number[] {
  return readdirSync(root(), { recursive: true, encoding: "utf8" })
    .map((name) => statSync(join(root(), name)))
    .filter((entry) => entry.isFile())
    .map(({ size }) => size);
}

/** Runs two turns with one image in a process of their own; returns how both ended, or the process's output. */
async function twoTurns(command: string, args: string[], options: SpawnOptions = {}): Promise<unknown> {
  const env = home.env({ TEST_URL: simulator.baseUrl, TEST_KEY: simulator.apiKey });
  const child = spawn(command, args, { ...options, env, cwd: home.cwd, stdio: ["ignore", "pipe", "pipe"] });
  const timer = setTimeout(() => child.kill("SIGKILL"), 60_000);
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream?.setEncoding("utf8").on("data", (text) => (output += text));
  const failure = await new Promise<Error | undefined>((resolve) => {
    child.on("error", resolve).on("close", () => resolve(undefined));
  });
  clearTimeout(timer);
  if (failure !== undefined) return failure.message;
  return output.startsWith("[") ? (JSON.parse(output) as unknown) : output;
}

const plain = (seed: string, options?: SpawnOptions): Promise<unknown> =>
  twoTurns(process.execPath, [PROGRAM, seed], options);

const noShell = process.platform === "win32" ? "Windows has no limit on the size of files" : false;
const notRoot = process.getuid?.() === 0 ? false : "only root can change to another user";

test(
  "upload index: disk full or read-only → every process uploads, nothing is left behind",
  { skip: noShell },
  async () => {
    const limited = ["-c", 'ulimit -f 0; exec "$0" "$@"', process.execPath, PROGRAM, "full"];
    assert.deepEqual(await twoTurns("sh", limited), ["stop", "stop"]);
    assert.equal(uploads(), 1, "the second turn remembers");
    assert.deepEqual(left(), []);
    const began = Date.now();
    assert.deepEqual(await plain("full"), ["stop", "stop"]);
    assert.ok(Date.now() - began < 9_000, "it waited for an unheld lease");
    assert.equal(uploads(), 2);
    assert.equal(left().length, 1);
  },
);

describe("upload index: no permission to write", () => {
  for (const [name, mode] of [
    ["reads what is known and uploads the rest", 0o755],
    ["may not even look", 0o700],
  ] as const) {
    test(name, { skip: notRoot }, async (t) => {
      assert.deepEqual(await plain("known"), ["stop", "stop"]);
      for (const path of [home.path, home.home, home.cwd, home.tmp, home.agent]) chmodSync(path, 0o755);
      for (const path of [join(home.home, ".pi"), join(root(), ".."), root()]) chmodSync(path, 0o755);
      const [scope = ""] = readdirSync(root());
      chmodSync(join(root(), scope), mode);
      const [entry = ""] = readdirSync(join(root(), scope));
      chmodSync(join(root(), scope, entry), 0o644);
      const before = left();
      const other = { uid: UNPRIVILEGED, gid: UNPRIVILEGED };
      const ends = await plain("known", other);
      if (typeof ends === "string" && /EACCES|EPERM|ENOENT/.test(ends)) {
        return t.skip("our own files are closed to other users here");
      }
      assert.deepEqual(ends, ["stop", "stop"]);
      assert.equal(uploads(), mode === 0o755 ? 1 : 2);
      assert.deepEqual(await plain("new", other), ["stop", "stop"]);
      assert.equal(uploads(), mode === 0o755 ? 2 : 3);
      assert.deepEqual(left(), before);
    });
  }

  test("folder cannot be created → every process uploads", { skip: notRoot }, async (t) => {
    for (const path of [home.path, home.home, home.cwd, home.tmp, home.agent]) chmodSync(path, 0o755);
    mkdirSync(join(home.home, ".pi"));
    const ends = await plain("none", { uid: UNPRIVILEGED, gid: UNPRIVILEGED });
    if (typeof ends === "string" && /EACCES|EPERM|ENOENT/.test(ends)) {
      return t.skip("our own files are closed to other users here");
    }
    assert.deepEqual(ends, ["stop", "stop"]);
    assert.equal(uploads(), 1);
    assert.deepEqual(readdirSync(join(home.home, ".pi")), []);
  });
});
