/** scripts/test_e2e.sh against the simulator, as CI runs it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { run } from "../support/packages.ts";
import { ROOT } from "../support/pi.ts";

const script = (args: string[], env: Record<string, string> = {}): string =>
  run("node", ["tests/e2e/main.ts", ...args], ROOT, { ...process.env, ...env });

test("end to end: every suite against the simulator → passes", () => {
  const output = script([]);
  assert.match(output, /All suites passed\./);
  assert.equal(output.match(/^ok /gm)?.length, 11);
  assert.doesNotMatch(output, /^skip/m);
});

test("end to end: KIMI_E2E_ONLY_CACHE=1 → the cache suite; a proxy's password → not printed", () => {
  const output = script([], { KIMI_E2E_ONLY_CACHE: "1", ALL_PROXY: "http://user:secret@proxy.invalid:1" });
  assert.match(output, /^ALL_PROXY=http:\/\/\*\*\*@proxy\.invalid:1$/m);
  assert.doesNotMatch(output, /secret/);
  assert.match(output, /^ok {3}cache, openai/m);
  assert.doesNotMatch(output, /^ok {3}chat/m);
});

test("end to end: --skip and unknown suites → left out, refused", () => {
  const output = script(["--skip", "chat,tools,uploads,cache"]);
  assert.equal(output.match(/^ok /gm)?.length, 3);
  assert.throws(() => script(["--only", "nonsense"]), /There is no suite nonsense; there are chat, /);
});
