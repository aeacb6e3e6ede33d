/** A short version of `npm run soak`: turns, aborts, threads and processes that end at any moment leave nothing behind. */
import assert from "node:assert/strict";
import { constants } from "node:os";
import { after, before, test } from "node:test";
import { complaint, complaints, ENDINGS, Ground, paced } from "./runs.ts";

/** Short runs mostly warm up. */
const MEGABYTES = 60;

let ground: Ground;
before(async () => (ground = await Ground.make()));
after(() => ground.remove());

test("soak: turns one after another → nothing left behind", async () => {
  assert.deepEqual(complaints(await ground.run("turns", [200]), 16, MEGABYTES), []);
});

test("soak: concurrent streams → nothing left behind", async () => {
  assert.deepEqual(complaints(await ground.run("streams", [24, 1], paced(120, 40)), 48, MEGABYTES), []);
});

test("soak: many aborts → nothing left behind", async () => {
  assert.deepEqual(complaints(await ground.run("aborts", [150]), 64, MEGABYTES), []);
});

// Each thread has a heap of its own, so memory is not compared while they come and go.
test("soak: worker threads that start and end at any time → nothing left behind", async () => {
  assert.deepEqual(complaints(await ground.run("workers", [8]), 16, Infinity), []);
});

for (const signal of ["SIGTERM", "SIGINT"] as const) {
  test(`soak: Pi ended by ${signal} during an answer → ends cleanly`, { timeout: 120_000 }, async () => {
    const { code, signal: by, stderr } = await ground.endPi(signal);
    assert.ok(by === signal || code === 128 + constants.signals[signal], `code ${code}, signal ${by}: ${stderr}`);
    assert.equal(stderr, "");
  });
}

for (const way of ENDINGS) {
  test(`soak: process ended by '${way}' during its answers → ends cleanly`, { timeout: 120_000 }, async () => {
    for (const delay of way === "return" ? [0] : [0, 40, 150]) {
      assert.equal(complaint(way, await ground.end(way, delay)), undefined);
    }
  });
}
