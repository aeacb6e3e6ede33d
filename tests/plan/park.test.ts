/** Used-up quota windows and the client for Node programs: what waits, what stops, and what is sent meanwhile. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { faults, type PlanWindow, type RequestRecord, wallet } from "../simulator/index.ts";
import { failure } from "../support/failure.ts";
import { firstEvent, fiveHours, follow, planStage, startWaiting } from "../support/plan.ts";

const HOUR = 3_600_000;

/** The addon waits five seconds at least after a reset, so that processes do not all come at once. */
const JITTER_MS = 5_000;

/** The goal is 200 ms. This is for a busy machine, and far below any pause of ours. */
const ABORTED_WITHIN_MS = 3_000;

/** When windows open: late enough to meet a used-up one on a slow machine. */
const OPENS_MS = 10_000;

/** Asserts that no request arrived between the refusals and the opening of the window. */
function assertQuiet(chats: RequestRecord[], opensAt: number): void {
  const early = chats.filter(({ time }) => time < opensAt + JITTER_MS);
  assert.deepEqual(new Set(early.map(({ status }) => status)), new Set([403]));
  assert.equal(early.length * 2, chats.length, "one refusal and one answer each");
}

describe("a window that opens again", { concurrency: true }, () => {
  for (const [how, options, env] of [
    ["option onQuota of the client", { onQuota: "wait" }, {}],
    ["variable KIMI_CODE_QUOTA", {}, { KIMI_CODE_QUOTA: "wait" }],
    ["setting quota.onExhausted", { settings: { quota: { onExhausted: "wait" } } }, {}],
  ] as const) {
    test(`${how}: wait → parked, nothing sent, resumed, answer on the same stream`, async (context) => {
      const opensAt = Date.now() + OPENS_MS;
      const stage = await planStage(context, () => [fiveHours(0, { opensAt })]);
      const events = await follow(stage.kimi({ ...options, env }).chat("hi"));
      const types = events.map(({ type }) => type);
      assert.deepEqual(types, ["parked", "resumed", "start", "text_start", "text_delta", "text_end", "done"]);
      const told = events[0] as { window: string; resetsAt: number };
      assert.deepEqual(Object.keys(told).sort(), ["resetsAt", "type", "window"]);
      assert.equal(told.window, "5h");
      assert.ok(told.resetsAt >= opensAt && told.resetsAt < opensAt + 1000);
      assert.equal(stage.requests("chat").length, 2);
      assertQuiet(stage.requests("chat"), opensAt);
      // Once to find the window, once on waking.
      assert.equal(stage.requests("usages").length, 2);
    });
  }

  test("option onQuota of a chat → outranks the client's", async (context) => {
    const stage = await planStage(context, () => [fiveHours(OPENS_MS)]);
    const kimi = stage.kimi({ onQuota: "stop" });
    assert.equal((await failure(kimi.chat("hi").final())).code, "quota_exhausted");
    assert.equal(await kimi.chat("hi", { onQuota: "wait" }).text(), "Hello.");
  });

  test("reset that moves twice → waited for each time", async (context) => {
    const start = Date.now();
    const stage = await planStage(context, () => [fiveHours(OPENS_MS)]);
    const [window] = stage.windows() as [PlanWindow];
    const resets: number[] = [];
    const chat = stage.kimi({ onQuota: "wait" }).chat("hi");
    await follow(chat, (event) => {
      if (event.type !== "parked") return;
      resets.push(event.resetsAt);
      // Beyond the longest pause after a reset, so the window is still full on waking.
      if (resets.length === 1) window.opensAt = start + OPENS_MS + 50_000;
      if (resets.length === 2) window.opensAt = start + OPENS_MS + 52_000;
    });
    assert.ok(resets.length >= 2 && resets.every((reset, at) => at === 0 || reset > (resets[at - 1] ?? 0)));
    assert.equal(stage.requests("chat").length, 2);
  });

  test("/usages fails while parked → parked until the known reset", async (context) => {
    const opensAt = Date.now() + OPENS_MS;
    const stage = await planStage(context, () => [fiveHours(0, { opensAt })]);
    const chat = stage.kimi({ onQuota: "wait" }).chat("hi");
    const events = await follow(chat, (event) => {
      if (event.type === "parked")
        stage.simulator.intercept("usages", ...Array.from({ length: 20 }, () => ({ status: 500 })));
    });
    assert.equal(events.at(-1)?.type, "done");
    assertQuiet(stage.requests("chat"), opensAt);
  });

  test("/usages fails when the window refuses → asked again, then parked", async (context) => {
    const opensAt = Date.now() + 2 * OPENS_MS;
    const stage = await planStage(context, () => [fiveHours(0, { opensAt })]);
    stage.simulator.intercept("usages", { status: 500 }, { status: 503 });
    const events = await follow(stage.kimi({ onQuota: "wait" }).chat("hi"));
    assert.deepEqual([events[0]?.type, events.at(-1)?.type], ["parked", "done"]);
    assertQuiet(stage.requests("chat"), opensAt);
  });

  test("refused again although /usages says open → sent again a little later", async (context) => {
    const stage = await planStage(context, () => [fiveHours(OPENS_MS)]);
    const chat = stage.kimi({ onQuota: "wait" }).chat("hi");
    // Nothing is sent while it waits, so this meets the request after the reset.
    let late = faults["cycle-limit"].http;
    const events = await follow(chat, ({ type }) => {
      if (type === "parked" && late !== undefined) stage.simulator.intercept("chat", late);
      if (type === "parked") late = undefined;
    });
    const types = events.map(({ type }) => type).filter((type) => /parked|resumed|done/.test(type));
    assert.deepEqual(types, ["parked", "resumed", "parked", "resumed", "done"]);
    assert.equal(stage.requests("chat").length, 3);
  });

  for (const [what, windows] of [
    ["the window is gone", { limit_7d: { used_ratio: 0.3, reset_time: inHours(90) } }],
    ["nothing is told any more", {}],
    ["its limit is larger", { limit_5h: { used_ratio: 0.4, reset_time: inHours(1) } }],
  ] as const) {
    test(`another plan while parked, ${what} → continues at the known reset at the latest`, async (context) => {
      const opensAt = Date.now() + OPENS_MS;
      const stage = await planStage(context, () => [fiveHours(0, { opensAt })]);
      const events = await follow(stage.kimi({ onQuota: "wait" }).chat("hi"), ({ type }) => {
        if (type === "parked") stage.plan.tell = () => ({ usages: windows });
      });
      assert.equal(events.at(-1)?.type, "done");
      assertQuiet(stage.requests("chat"), opensAt);
    });
  }

  test(
    "process suspended while its window opens → continues when it is woken",
    { skip: process.platform === "win32" },
    async (context) => {
      const opensAt = Date.now() + 2 * OPENS_MS;
      const stage = await planStage(context, () => [fiveHours(0, { opensAt })]);
      const { child, event } = startWaiting(context, stage);
      await event("parked");
      child.kill("SIGSTOP");
      await sleep(opensAt + 2 * JITTER_MS - Date.now());
      assert.equal(stage.requests("chat").length, 1);
      child.kill("SIGCONT");
      await event("done");
      assertQuiet(stage.requests("chat"), opensAt);
    },
  );

  test("several processes → one question for the window, one on waking, spread over the time after the reset", async (context) => {
    const opensAt = Date.now() + 20_000;
    const stage = await planStage(context, () => [fiveHours(0, { opensAt })]);
    const waiting = Array.from({ length: 5 }, () => startWaiting(context, stage));
    await Promise.all(waiting.map((process) => process.event("parked")));
    assert.equal(stage.requests("usages").length, 1);
    assert.deepEqual(await stage.parked().then(({ state, window, sessions }) => [state, window, sessions]), [
      "parked",
      "5h",
      5,
    ]);
    await Promise.all(waiting.map((process) => process.event("done")));
    assertQuiet(stage.requests("chat"), opensAt);
    assert.equal(stage.requests("chat").length, 10);
    const [, ...onWaking] = stage.requests("usages");
    assert.equal(onWaking.length, 1);
    assert.ok((onWaking[0]?.time ?? 0) >= opensAt + JITTER_MS);
    assert.equal((await stage.parked()).sessions, 0);
  });
});

describe("a window that is not waited for", { concurrency: true }, () => {
  test("no option, and stop → quota_exhausted at once with window and time", async (context) => {
    const stage = await planStage(context, () => [fiveHours(HOUR)]);
    for (const options of [{}, { onQuota: "stop" }] as const) {
      const error = await failure(stage.kimi(options).chat("hi").final());
      assert.equal(error.code, "quota_exhausted");
      assert.match(error.message, /5-hour window is used up, opens [\w ]*\d\d:\d\d \(in \d[^)]+\)/);
      const { usage } = await stage.kimi(options).usage();
      assert.equal(error.resetsAt, usage?.windows[0]?.resetsAt);
      assert.ok(typeof error.resetsAt === "number" && error.resetsAt > Date.now());
    }
    assert.equal(stage.requests("chat").length, 2);
  });

  for (const [what, usage] of [
    ["absent", () => ({ usages: { limit_5h: { used_ratio: 1 } } })],
    ["ten days ahead", () => ({ usages: { limit_5h: { used_ratio: 1, reset_time: inHours(240) } } })],
    ["beyond quota.maxWaitMs", () => ({ usages: { limit_5h: { used_ratio: 1, reset_time: inHours(3) } } })],
  ] as const) {
    test(`reset ${what} → quota_exhausted at once`, async (context) => {
      const stage = await planStage(context, () => [fiveHours(HOUR)]);
      stage.plan.tell = usage;
      const settings = { quota: { maxWaitMs: what.startsWith("beyond") ? 60_000 : 21_600_000 } };
      const error = await failure(stage.kimi({ onQuota: "wait", settings }).chat("hi").final());
      assert.equal(error.code, "quota_exhausted");
      if (what !== "absent") assert.match(error.message, /5-hour window is used up, opens [\w ]*\d\d:\d\d \(in /);
      assert.equal(stage.requests("chat").length, 1);
    });
  }

  test("reset in the past → looked at twice more, then quota_exhausted", async (context) => {
    const stage = await planStage(context, () => [fiveHours(HOUR)]);
    const past = inHours(-1);
    stage.plan.tell = () => ({ usages: { limit_5h: { used_ratio: 1, reset_time: past } } });
    const error = await failure(stage.kimi({ onQuota: "wait" }).chat("hi").final());
    assert.equal(error.code, "quota_exhausted");
    assert.match(error.message, /5-hour window is used up/);
    assert.equal(error.resetsAt, undefined);
    assert.equal(stage.requests("chat").length, 1);
  });

  test("reset in another time zone → the same moment", async (context) => {
    const stage = await planStage(context, () => [fiveHours(HOUR)]);
    const opensAt = Math.ceil(Date.now() / 1000) * 1000 + HOUR;
    const shifted = new Date(opensAt + 8 * HOUR).toISOString().replace(/\.\d+Z$/, "+08:00");
    stage.plan.tell = () => ({ usages: { limit_5h: { used_ratio: 1, reset_time: shifted } } });
    const chat = stage.kimi({ onQuota: "wait" }).chat("hi");
    assert.equal((await firstEvent(chat, "parked")).resetsAt, opensAt);
    chat.abort();
  });

  test("abort while parked → cancelled, and nothing is sent", async (context) => {
    const stage = await planStage(context, () => [fiveHours(HOUR)]);
    const chat = stage.kimi({ onQuota: "wait" }).chat("hi");
    const final = failure(chat.final());
    await firstEvent(chat, "parked");
    const aborted = performance.now();
    chat.abort();
    assert.equal((await final).code, "cancelled");
    const took = performance.now() - aborted;
    context.diagnostic(`abort while parked took ${Math.round(took)} ms`);
    assert.ok(took < ABORTED_WITHIN_MS, `${took} ms`);
    assert.equal(stage.requests("chat").length, 1);
  });

  test("process killed while parked → nothing is left that stops or counts", async (context) => {
    const stage = await planStage(context, () => [fiveHours(HOUR)]);
    const { child, event } = startWaiting(context, stage);
    await event("parked");
    assert.equal((await stage.parked()).sessions, 1);
    child.kill("SIGKILL");
    await once(child, "close");
    assert.deepEqual(await stage.parked().then(({ state, sessions }) => [state, sessions]), ["open", 0]);
    for (const window of stage.windows()) window.percent = 10;
    assert.equal(await stage.kimi({ onQuota: "wait" }).chat("hi").text(), "Hello.");
  });
});

function inHours(hours: number): string {
  return new Date(Date.now() + hours * HOUR).toISOString().replace(/\.\d+Z$/, "Z");
}

describe("a reserve", { concurrency: true }, () => {
  const reserve = { "5h": 5 };

  test("stop → quota_exhausted that names the reserve, before anything is sent", async (context) => {
    const stage = await planStage(context, () => [fiveHours(HOUR, { percent: 96 })]);
    const kimi = stage.kimi({ settings: { quota: { reserve } } });
    for (let time = 0; time < 3; time += 1) {
      const error = await failure(kimi.chat("hi").final());
      assert.equal(error.code, "quota_exhausted");
      assert.match(error.message, /5-hour window: 5 % of it are kept in reserve/);
      assert.ok((error.resetsAt ?? 0) > Date.now(), `${error.resetsAt}`);
    }
    assert.deepEqual([stage.requests("chat").length, stage.requests("usages").length], [0, 1]);
  });

  test("wait → parked before the request, sent once the window is open", async (context) => {
    const opensAt = Date.now() + OPENS_MS;
    const stage = await planStage(context, () => [fiveHours(0, { opensAt, percent: 96 })]);
    const kimi = stage.kimi({ onQuota: "wait", settings: { quota: { reserve } } });
    const events = await follow(kimi.chat("hi"));
    assert.deepEqual([events[0]?.type, events.at(-1)?.type], ["parked", "done"]);
    const chats = stage.requests("chat");
    assert.equal(chats.length, 1);
    assert.ok((chats[0]?.time ?? 0) >= opensAt + JITTER_MS);
  });

  test("not reached → sent; the quota is asked for once, also for several requests", async (context) => {
    const stage = await planStage(context, () => [fiveHours(HOUR, { percent: 94 })]);
    const kimi = stage.kimi({ settings: { quota: { reserve } } });
    for (let time = 0; time < 3; time += 1) assert.equal(await kimi.chat("hi").text(), "Hello.");
    assert.deepEqual([stage.requests("chat").length, stage.requests("usages").length], [3, 1]);
  });

  test("bought credit is left → goes on, and says so once in a chat", async (context) => {
    const stage = await planStage(context, () => [fiveHours(HOUR, { percent: 97 })]);
    stage.plan.tell = (document) => ({ ...document, ...wallet() });
    const events = await follow(stage.kimi({ settings: { quota: { reserve } } }).chat("hi"));
    const notes = events.flatMap((event) => (event.type === "note" ? [event.message] : []));
    assert.deepEqual(notes, ["5-hour window: the reserve is reached; bought credit is spent now"]);
    assert.equal(events.at(-1)?.type, "done");
  });

  test("none is set → the quota is not asked for", async (context) => {
    const stage = await planStage(context, () => [fiveHours(HOUR, { percent: 99 })]);
    const kimi = stage.kimi();
    for (let time = 0; time < 3; time += 1) await kimi.chat("hi").final();
    assert.deepEqual([stage.requests("chat").length, stage.requests("usages").length], [3, 0]);
  });
});

test("home that takes no files → answers without a ledger, one note", async (context) => {
  const stage = await planStage(context, () => [fiveHours(HOUR, { percent: 10 })]);
  // Also root cannot make a folder in a file.
  writeFileSync(join(stage.home.home, ".pi"), "");
  const notes: string[] = [];
  for (let time = 0; time < 2; time += 1) {
    const events = await follow(stage.kimi().chat("hi"));
    notes.push(...events.flatMap((event) => (event.type === "note" ? [event.message] : [])));
    assert.equal(events.at(-1)?.type, "done");
  }
  assert.deepEqual(notes.length, 1);
  assert.match(notes[0] ?? "", /^What requests use of the plan is not recorded: /);
});

test("options that do not exist → named", async (context) => {
  const stage = await planStage(context, () => [fiveHours(HOUR)]);
  assert.throws(() => stage.kimi({ onQuota: "ask" as "wait" }), /onQuota must be one of wait, stop, not "ask"/);
  const kimi = stage.kimi();
  assert.throws(() => kimi.chat("hi", { onQuota: true as never }), /onQuota must be one of wait, stop, not true/);
  const usage = kimi.usage as (options: unknown) => Promise<unknown>;
  assert.match((await failure(usage.call(kimi, { by: "day" }))).message, /by needs history/);
  assert.match((await failure(usage.call(kimi, { history: "7d", by: "hour" }))).message, /by must be one of session/);
  assert.match((await failure(kimi.usage({ history: "7 apples" }))).message, /write 7d or 24h/);
});
