/**
 * The fault matrix (docs/reliability.md) and a connection that breaks at any byte, through the client for Node programs.
 *
 * One end per call, of the right kind, no text twice, no retry that cannot help, bounded time.
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
import { startForeignHost, type ForeignHost } from "./foreign-host.ts";
import { broken, slow, unexpected } from "./checks.ts";
import { faults } from "../simulator/faults.ts";
import { startSimulator } from "../simulator/index.ts";
import { DIALECTS } from "../support/turn.ts";
import { answerRequests } from "../support/simulator.ts";

describe("fault matrix", () => {
  let foreign: ForeignHost;
  let all: Fault[];
  let cells: Played[];

  before(async () => {
    withoutProxies();
    foreign = await startForeignHost();
    all = catalogue(foreign.origin);
    cells = await playWithClient(cellsOf(all));
  });
  after(() => foreign.close());

  test("every call → ends once, shows its text once and nothing else", () => assert.deepEqual(broken(cells), []));

  test("every failure → has its kind, and is retried only where that can help", () => {
    assert.deepEqual(unexpected(cells, expected), []);
  });

  test("every call → within its timeouts", () => assert.deepEqual(slow(cells), []));

  test("a redirect → not followed", () => assert.deepEqual(foreign.received, []));

  test("docs/reliability.md → has the table of this run (npm run reliability writes it)", () => {
    assert.deepEqual(differences(readFileSync(RELIABILITY, "utf8"), "client", table(all, cells)), []);
  });
});

describe("connection broken at any byte", () => {
  const home = mkdtempSync(join(tmpdir(), "kimi-sweep-"));
  after(() => rmSync(home, { recursive: true, force: true }));

  for (const dialect of DIALECTS) {
    for (const how of ["reset", "close", "stall", "garbage"] satisfies Break[]) {
      test(`${dialect}, ${how} → the text shown is a prefix of the answer, shown once`, async () => {
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
          // Retried only where nothing had been shown, and then successful.
          assert.ok(seen.requests === 1 || seen.outcome === "answer", about);
        });
      });
    }
  }
});

describe("retry settings of the caller", () => {
  test("maxRetries → counts the requests after the first one", async () => {
    const simulator = await startSimulator({ identityGate: "off" });
    try {
      simulator.setDefault(faults.overloaded);
      const kimi = new Kimi({ baseUrl: simulator.baseUrl, apiKey: simulator.apiKey });
      for (const maxRetries of [0, 1]) {
        const before = answerRequests(simulator).length;
        const error: unknown = await kimi
          .chat("hi", { maxRetries })
          .final()
          .catch((reason: unknown) => reason);
        assert.equal((error as { code?: string }).code, "overloaded");
        assert.equal(answerRequests(simulator).length - before, 1 + maxRetries);
      }
    } finally {
      await simulator.close();
    }
  });
});
