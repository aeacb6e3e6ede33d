/** The limit for the size of the addon, as the release workflow checks it on each platform. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { codeByCrate, LIMIT } from "../../npm/size.mjs";
import { ROOT } from "../support/pi.ts";

function check(size: number): number | null {
  const folder = mkdtempSync(join(tmpdir(), "kimi-size-test-"));
  try {
    const file = join(folder, "linux-x64-gnu.node");
    writeFileSync(file, "");
    truncateSync(file, size);
    return spawnSync(process.execPath, [join(ROOT, "npm", "size.mjs"), "--check", file]).status;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test("size: an addon above the limit → the check fails", () => {
  assert.equal(check(LIMIT), 0);
  assert.equal(check(LIMIT + 1), 1);
});

test("size: the release workflow → checks each platform", () => {
  const workflow = readFileSync(join(ROOT, ".github", "workflows", "release.yml"), "utf8");
  const [, built] = workflow.split("node npm/build.mjs --release --platform ${{ matrix.platform }}");
  assert.match(built ?? "", /node npm\/size\.mjs --check npm\/\$\{\{ matrix\.platform \}\}\/kimi-code\.node/);
});

test("size: names of functions → bytes of code per crate", () => {
  const symbols = `
0000000000001000 0000000000000010 t kimi_code::chat::encode
0000000000001010 0000000000000020 T <kimi_code::Kimi as core::fmt::Debug>::fmt
0000000000001030 0000000000000008 t <&mut serde_json::de::Deserializer<R> as serde_core::de::Deserializer>::deserialize_any
0000000000001038 0000000000000100 r h2::frame::TABLE
0000000000001138 0000000000000004 t p256_mul
                 U malloc`;
  assert.deepEqual(codeByCrate(symbols), [
    ["kimi_code", 48],
    ["serde_json", 8],
    ["C and assembly, shared code", 4],
  ]);
});
