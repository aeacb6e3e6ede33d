/**
 * The fault matrix (docs/reliability.md) inside real Pi.
 *
 * One message per prompt, with the right kind and wording, no text twice, as many requests as through the client.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { catalogue } from "./cases.ts";
import { differences, RELIABILITY } from "./document.ts";
import { cellsOf, expectedInPi, isInPi, type Played, tableInPi } from "./matrix.ts";
import { playInPi } from "./pi.ts";
import { startForeignHost, type ForeignHost } from "./foreign-host.ts";
import { broken, slow, unexpected } from "./checks.ts";
import { startSimulator } from "../simulator/index.ts";
import { faults } from "../simulator/faults.ts";
import { Home, runPi } from "../support/pi.ts";

describe("fault matrix in real Pi", () => {
  let foreign: ForeignHost;
  let played: Played[];

  before(async () => {
    foreign = await startForeignHost();
    played = await playInPi(cellsOf(catalogue(foreign.origin)).filter(isInPi));
  });
  after(() => foreign.close());

  test("every turn → ends once, shows its text once and nothing else", () => assert.deepEqual(broken(played), []));

  test("every failure → worded by its kind, and Pi does not repeat what we gave up", () => {
    assert.deepEqual(unexpected(played, expectedInPi), []);
  });

  test("every turn → within its timeouts", () => assert.deepEqual(slow(played), []));

  test("a redirect → not followed", () => assert.deepEqual(foreign.received, []));

  test("docs/reliability.md → has the table of this run (npm run reliability writes it)", () => {
    assert.deepEqual(differences(readFileSync(RELIABILITY, "utf8"), "pi", tableInPi(played)), []);
  });
});

test("fault matrix in real Pi: retry.provider.maxRetries 0 → only Pi retries", async () => {
  const home = new Home();
  const simulator = await startSimulator();
  try {
    home.settings({ retry: { enabled: true, maxRetries: 1, baseDelayMs: 50, provider: { maxRetries: 0 } } });
    simulator.setDefault(faults.overloaded);
    const env = { KIMI_CODE_BASE_URL: simulator.baseUrl, KIMI_API_KEY: simulator.apiKey };
    const args = ["--mode", "json", "--no-session", "--model", "kimi-coding/kimi-for-coding", "hi"];
    const pi = await runPi(args, { home, env });
    assert.equal(simulator.requests.filter(({ endpoint }) => endpoint === "chat").length, 2, "one each of Pi's two");
    assert.equal(pi.events.filter(({ type }) => type === "auto_retry_start").length, 1);
  } finally {
    home.remove();
    await simulator.close();
  }
});
