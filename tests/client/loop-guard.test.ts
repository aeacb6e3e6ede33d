/** `LoopGuard`: what counts as a repetition, and what happens then. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import type { ExtensionContext } from "@earendil-works/pi-coding-agent";
import type { TranscriptContext } from "@earendil-works/pi-ai";
import { LoopGuard, type LoopLimits } from "../../index.ts";
import { LoopBrake } from "../../extension/loop-brake.ts";
import { LOOP_LIMITS } from "../../extension/loop-guard.ts";

type Call = [tool: string, args: unknown, result: unknown];

/** Plays calls, one per message, until the guard stops; returns the actions and the number of executions. */
function play(calls: Iterable<Call>, limits?: LoopLimits): { actions: (string | undefined)[]; executed: number } {
  const guard = new LoopGuard(limits);
  const actions: (string | undefined)[] = [];
  let executed = 0;
  for (const [tool, args, result] of calls) {
    const action = guard.before(tool, args)?.action;
    actions.push(action);
    if (action === "stop") break;
    if (action === "block") continue;
    executed += 1;
    guard.after(tool, args, result);
  }
  return { actions, executed };
}

function* forever(...calls: Call[]): Generator<Call> {
  for (let count = 0; count < 100; count += 1) yield* calls;
}

describe("loop guard", () => {
  test("same call, same result → warned at 3, blocked from 5 on, stopped at 12", () => {
    const { actions, executed } = play(forever(["read", { path: "a" }, "text"]));
    assert.deepEqual(actions, [undefined, undefined, "warn", "warn", ...Array<string>(7).fill("block"), "stop"]);
    assert.equal(executed, 4);
  });

  test("two calls in turn → stopped within 24 calls", () => {
    const { actions, executed } = play(forever(["read", { path: "a" }, "x"], ["read", { path: "b" }, "y"]));
    assert.equal(actions.at(-1), "stop");
    assert.ok(actions.length <= 24, `${actions.length} calls`);
    assert.equal(executed, 8);
  });

  test("order of members and spacing → the same call", () => {
    const { actions } = play([
      ["f", { a: 1, b: { c: 2, d: 3 } }, "r"],
      ["f", { b: { d: 3, c: 2 }, a: 1 }, "r"],
      ["f", { a: 1, b: { c: 2, d: 3 } }, "r"],
    ]);
    assert.equal(actions.at(-1), "warn");
  });

  test("another result each time → no loop", () => {
    const polls = Array.from({ length: 30 }, (_, n): Call => ["status", {}, `${n} %`]);
    assert.deepEqual(new Set(play(polls).actions), new Set([undefined]));
  });

  test("another result in between → counting begins again", () => {
    const calls = ["a", "a", "b", "b", "b"].map((result): Call => ["t", {}, result]);
    assert.deepEqual(play(calls).actions, [undefined, undefined, "warn", undefined, "warn"]);
  });

  test("another call in between → no loop of one", () => {
    const calls: Call[] = [
      ["a", {}, 1],
      ["a", {}, 1],
      ["b", {}, 1],
      ["a", {}, 1],
      ["a", {}, 1],
    ];
    assert.deepEqual(new Set(play(calls).actions), new Set([undefined]));
  });

  test("limits of 0 → never", () => {
    assert.deepEqual(
      new Set(play(forever(["t", {}, "r"]), { warn: 0, block: 0, stop: 0 }).actions),
      new Set([undefined]),
    );
  });

  test("block at 1 → not before the result came twice", () => {
    const { actions, executed } = play(forever(["write", { path: "a" }, "ok"]), { warn: 0, block: 1, stop: 0 });
    assert.deepEqual(actions.slice(0, 3), [undefined, undefined, "block"]);
    assert.equal(executed, 2);
  });

  test("identical siblings of one message → count once", () => {
    const guard = new LoopGuard();
    for (let message = 0; message < 2; message += 1) {
      guard.startMessage();
      for (let sibling = 0; sibling < 5; sibling += 1) {
        assert.equal(guard.before("read", { path: "a" }), undefined);
        guard.after("read", { path: "a" }, "text");
      }
    }
    guard.startMessage();
    assert.equal(guard.before("read", { path: "a" })?.action, "warn");
  });

  test("identical calls that run at the same time → count once, without messages too", () => {
    const guard = new LoopGuard();
    for (let sibling = 0; sibling < 10; sibling += 1) assert.equal(guard.before("read", {}), undefined);
  });

  test("arguments and results that JSON cannot hold → no loop, no error", () => {
    const circular: Record<string, unknown> = {};
    circular["self"] = circular;
    assert.deepEqual(new Set(play(forever(["t", circular, 1n])).actions), new Set([undefined]));
  });

  test("calls that take long wait for something → reported, never blocked, also with a call in between", async () => {
    const sleeping: Call = ["bash", { command: "sleep 10" }, ""];
    const asking: Call = ["bash", { command: "check" }, "in progress"];
    const alone = new LoopGuard();
    const inTurn = new LoopGuard();
    const [sleep, ask] = [sleeping, asking] as const;
    for (let round = 0; round < 4; round += 1) {
      alone.before(ask[0], ask[1]);
      inTurn.before(ask[0], ask[1]);
      inTurn.after(...ask);
      inTurn.before(sleep[0], sleep[1]);
      if (round === 3) await delay(10_100);
      alone.after(...ask);
      inTurn.after(...sleep);
    }
    for (const guard of [alone, inTurn]) assert.equal(guard.before(ask[0], ask[1])?.action, "warn");
    // Quick from now on.
    alone.after(...ask);
    const actions = Array.from({ length: 3 }, () => {
      const action = alone.before(ask[0], ask[1])?.action;
      if (action !== "block") alone.after(...ask);
      return action;
    });
    assert.deepEqual(actions, ["warn", "block", "block"]);
  });

  test("results that were compacted away → counting begins again, and an ended run stays ended", () => {
    const kept: unknown[] = [];
    const brake = new LoopBrake({ appendEntry: (_type, data) => void kept.push(data) }, () => LOOP_LIMITS);
    const ctx = { hasUI: true, ui: { notify: () => undefined } } as unknown as ExtensionContext;
    let serial = 0;
    const read = (): string | undefined => {
      serial += 1;
      brake.startMessage();
      const reason = brake.before(`${serial}`, "read", { path: "a" }, ctx);
      brake.after(`${serial}`, { content: reason ?? "text", isError: reason !== undefined });
      return reason;
    };
    assert.deepEqual(
      Array.from({ length: 5 }, read).map((reason) => reason !== undefined),
      [...[false, false, false, false], true],
    );
    brake.forgetResults();
    assert.deepEqual(Array.from({ length: 4 }, read), [undefined, undefined, undefined, undefined]);
    for (let more = 0; more < 8; more += 1) read();
    brake.forgetResults();
    const messages = [{ role: "toolResult", toolCallId: `${serial}` }] as unknown as TranscriptContext["messages"];
    assert.match(brake.refusal({ messages } as TranscriptContext) ?? "", /read was called 12 times/);
  });

  test("honest sessions → never blocked", () => {
    let seed = 7;
    const random = (below: number): number => (seed = (seed * 1103515245 + 12345) % 2 ** 31) % below;
    for (let session = 0; session < 200; session += 1) {
      const files = new Map<string, number>();
      const calls = Array.from({ length: 60 }, (): Call => {
        const path = `f${random(8)}`;
        if (random(3) === 0) {
          files.set(path, (files.get(path) ?? 0) + 1);
          return ["edit", { path, text: `${random(1e6)}` }, "ok"];
        }
        return random(4) === 0
          ? ["bash", { command: "npm test" }, `${random(1e6)} ms`]
          : ["read", { path }, files.get(path) ?? 0];
      });
      const { actions } = play(calls);
      assert.ok(!actions.includes("block") && !actions.includes("stop"), `session ${session}`);
    }
  });
});
