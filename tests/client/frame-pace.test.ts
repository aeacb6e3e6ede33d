/** How often frames come, by what they cost the thread. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { FramePace } from "../../extension/native/frame-pace.ts";

/** Runs `frames` frames that each keep the thread busy for so long, and returns the interval afterwards. */
function intervalAfter(pace: FramePace, clock: Clock, frames: number, busyMs: number): number {
  for (let frame = 0; frame < frames; frame += 1) {
    clock.active += busyMs;
    clock.idle += Math.max(0, clock.interval - busyMs);
    pace.frame();
  }
  return clock.interval;
}

class Clock {
  active = 500;
  idle = 500;
  interval = 33;
  readonly pace = new FramePace(
    (ms) => (this.interval = ms),
    () => ({ active: this.active, idle: this.idle }),
  );
}

test("frame pace: cheap frames → 33 ms, whatever the program did before", () => {
  const clock = new Clock();
  assert.equal(intervalAfter(clock.pace, clock, 50, 2), 33);
});

test("frame pace: frames that cost a fifth of the thread → as before; more → less often, at most four times a second", () => {
  const clock = new Clock();
  assert.equal(intervalAfter(clock.pace, clock, 50, 6.5), 33);
  const slower = intervalAfter(clock.pace, clock, 50, 20);
  assert.ok(slower > 85 && slower < 115, `${slower} ms for frames of 20 ms`);
  assert.equal(intervalAfter(clock.pace, clock, 50, 200), 250);
});

test("frame pace: frames become cheap again → 33 ms again", () => {
  const clock = new Clock();
  intervalAfter(clock.pace, clock, 50, 60);
  assert.equal(intervalAfter(clock.pace, clock, 50, 3), 33);
});

test("frame pace: a pause between two answers does not count", () => {
  const clock = new Clock();
  intervalAfter(clock.pace, clock, 5, 2);
  clock.active += 3000;
  clock.idle += 60_000;
  assert.equal(intervalAfter(clock.pace, clock, 1, 2), 33);
});
