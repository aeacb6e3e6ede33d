/** A short version of `npm run soak`: nothing is left behind by turns, aborts, threads and processes that end at any moment. */
import assert from "node:assert/strict";
import { constants } from "node:os";
import { after, before, test } from "node:test";
import { complaint, complaints, ENDINGS, Ground, paced } from "./runs.ts";

/** Short runs are mostly warming up. */
const MEGABYTES = 60;

let ground: Ground;
before(async () => (ground = await Ground.make()));
after(() => ground.remove());

test("turns one after another leave nothing", async () => {
  assert.deepEqual(complaints(await ground.run("turns", [200]), 16, MEGABYTES), []);
});

test("streams side by side leave nothing", async () => {
  assert.deepEqual(complaints(await ground.run("streams", [24, 1], paced(120, 40)), 48, MEGABYTES), []);
});

test("a storm of aborts leaves nothing", async () => {
  assert.deepEqual(complaints(await ground.run("aborts", [150]), 64, MEGABYTES), []);
});

// Each thread brings a heap of its own, so memory says nothing while they come and go.
test("worker threads may start and end at will", async () => {
  assert.deepEqual(complaints(await ground.run("workers", [8]), 16, Infinity), []);
});

for (const signal of ["SIGTERM", "SIGINT"] as const) {
  test(`Pi may be ended by ${signal} in the middle of an answer`, { timeout: 120_000 }, async () => {
    const { code, signal: by, stderr } = await ground.endPi(signal);
    assert.ok(by === signal || code === 128 + constants.signals[signal], `code ${code}, signal ${by}: ${stderr}`);
    assert.equal(stderr, "");
  });
}

for (const way of ENDINGS) {
  test(`a process may end by '${way}' in the middle of its answers`, { timeout: 120_000 }, async () => {
    for (const delay of way === "return" ? [0] : [0, 40, 150]) {
      assert.equal(complaint(way, await ground.end(way, delay)), undefined);
    }
  });
}
