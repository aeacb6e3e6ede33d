/** The matrix of Pi versions: complete, and about files that exist. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { ROOT } from "../support/pi.ts";
import { MATRIX } from "./matrix.ts";

const TESTS = join(ROOT, "tests");

test("matrix: every test file that starts Pi → has a row with a reason", () => {
  const starting = readdirSync(TESTS, { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".test.ts"))
    .map((file) => file.replaceAll("\\", "/"))
    .filter((file) => /\b(runPi|RpcPi|withPi|Terminal)\b/.test(readFileSync(join(TESTS, file), "utf8")))
    .filter((file) => file !== "pi/matrix.test.ts");
  assert.deepEqual(starting.filter((file) => !MATRIX.some((row) => row.file === file)).sort(), []);
  assert.ok(MATRIX.every(({ reason }) => reason !== ""));
});

test("matrix: rows → name files that exist, each once", () => {
  const files = MATRIX.map(({ file }) => file);
  assert.deepEqual(
    files.filter((file) => !existsSync(join(TESTS, file))),
    [],
  );
  assert.equal(new Set(files).size, files.length);
});
