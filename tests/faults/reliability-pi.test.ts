/**
 * The fault matrix (docs/reliability.md) inside real Pi.
 *
 * One message per prompt, of the right kind and in words that tell it, nothing said twice, as many requests as through the client.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { catalogue } from "./cases.ts";
import { differences, RELIABILITY } from "./document.ts";
import { cellsOf, expectedInPi, isInPi, type Played, tableInPi } from "./matrix.ts";
import { playInPi } from "./pi.ts";
import { startThief, type Thief } from "./thief.ts";
import { broken, slow, unexpected } from "./verdict.ts";
import { startSimulator } from "../simulator/index.ts";
import { faults } from "../simulator/faults.ts";
import { Home, runPi } from "../support/pi.ts";

describe("the fault matrix in real Pi", () => {
  let thief: Thief;
  let played: Played[];

  before(async () => {
    thief = await startThief();
    played = await playInPi(cellsOf(catalogue(thief.origin)).filter(isInPi));
  });
  after(() => thief.close());

  test("every turn ends once, with what it showed and nothing else", () => assert.deepEqual(broken(played), []));

  test("every failure has its kind in words, and Pi does not try what we have given up", () => {
    assert.deepEqual(unexpected(played, expectedInPi), []);
  });

  test("nothing takes longer than its clocks", () => assert.deepEqual(slow(played), []));

  test("no redirect is followed", () => assert.deepEqual(thief.heard, []));

  test("the table in docs/reliability.md is the one of this run (npm run reliability writes it)", () => {
    assert.deepEqual(differences(readFileSync(RELIABILITY, "utf8"), "pi", tableInPi(played)), []);
  });
});

test("retry.provider.maxRetries: 0 leaves trying again to Pi", async () => {
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
