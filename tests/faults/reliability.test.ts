/**
 * The fault matrix (docs/reliability.md) and the wire that breaks at any byte, through the client for Node programs.
 *
 * One end per call, of the right kind, nothing shown twice, nobody asked again where that cannot help, in bounded time.
 */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { Kimi } from "../../index.ts";
import { catalogue, type Fault } from "./cases.ts";
import { playWithClient } from "./client.ts";
import { differences, RELIABILITY, withoutProxies } from "./document.ts";
import { cellsOf, expected, type Played, sideBySide, table } from "./matrix.ts";
import type { Break } from "./relay.ts";
import { brokenAt, WHOLE } from "./sweep.ts";
import { startThief, type Thief } from "./thief.ts";
import { broken, slow, unexpected } from "./verdict.ts";
import { faults } from "../simulator/faults.ts";
import { startSimulator } from "../simulator/index.ts";
import { DIALECTS } from "../support/turn.ts";

describe("the fault matrix", () => {
  let thief: Thief;
  let all: Fault[];
  let cells: Played[];

  before(async () => {
    withoutProxies();
    thief = await startThief();
    all = catalogue(thief.origin);
    cells = await playWithClient(cellsOf(all));
  });
  after(() => thief.close());

  test("every call ends once, with what it showed and nothing else", () => assert.deepEqual(broken(cells), []));

  test("every failure has its kind, and is asked again only where that may help", () => {
    assert.deepEqual(unexpected(cells, expected), []);
  });

  test("no call takes longer than its clocks", () => assert.deepEqual(slow(cells), []));

  test("no redirect is followed", () => assert.deepEqual(thief.heard, []));

  test("the table in docs/reliability.md is the one of this run (npm run reliability writes it)", () => {
    assert.deepEqual(differences(readFileSync(RELIABILITY, "utf8"), "client", table(all, cells)), []);
  });
});

describe("a wire that breaks at any byte", () => {
  const home = mkdtempSync(join(tmpdir(), "kimi-sweep-"));
  after(() => rmSync(home, { recursive: true, force: true }));

  for (const dialect of DIALECTS) {
    for (const how of ["reset", "close", "stall", "garbage"] satisfies Break[]) {
      test(`${dialect}, ${how}: what was shown is a beginning of the answer, and never shown twice`, async () => {
        const { bytes } = await brokenAt(dialect, home);
        const step = Math.ceil(bytes / 25);
        const places = Array.from({ length: Math.ceil(bytes / step) }, (_, at) => at * step);
        await sideBySide([...places, bytes - 6, bytes - 1], 8, async (at) => {
          const seen = await brokenAt(dialect, home, { how, at });
          const about = `broken at byte ${at} of ${bytes}: ${JSON.stringify(seen)}`;
          const complete = JSON.stringify(seen.got) === JSON.stringify(WHOLE);
          for (const kind of ["thinking", "text", "toolCall"] as const) {
            assert.ok(WHOLE[kind].startsWith(seen.got[kind]), about);
          }
          if (seen.outcome === "answer") assert.ok(complete, about);
          else assert.match(seen.outcome, /^(network|timeout|truncated|protocol)$/, about);
          // Asked again only where nothing had been shown, and then it succeeded.
          assert.ok(seen.requests === 1 || seen.outcome === "answer", about);
        });
      });
    }
  }
});

describe("retries that Pi or a caller forbids", () => {
  test("maxRetries counts the requests after the first one", async () => {
    const simulator = await startSimulator({ identityGate: "off" });
    try {
      simulator.setDefault(faults.overloaded);
      const kimi = new Kimi({ baseUrl: simulator.baseUrl, apiKey: simulator.apiKey });
      for (const maxRetries of [0, 1]) {
        const before = simulator.requests.length;
        const error: unknown = await kimi
          .chat("hi", { maxRetries })
          .final()
          .catch((reason: unknown) => reason);
        assert.equal((error as { code?: string }).code, "overloaded");
        assert.equal(simulator.requests.length - before, 1 + maxRetries);
      }
    } finally {
      await simulator.close();
    }
  });
});
