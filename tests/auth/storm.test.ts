/** A short storm of Node programs; the long one, with Pi and the official client, is `npm run storm -- --runs 1000`. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { storm } from "./storm.ts";

test("storm: 8 short runs → no login lost, no token spent twice, no process waits too long", async () => {
  const seed = Number(process.env["KIMI_TEST_SEED"] ?? 1);
  const report = await storm({ runs: 8, seed, nodeOnly: true, scale: 0.2 });
  const { lost, spentTwice, waitedTooLong, wronglyAsked } = report;
  assert.deepEqual([lost, spentTwice, waitedTooLong, wronglyAsked], [[], [], [], []], JSON.stringify(report));
});
