/** Many accounts whose windows are used up and open again: no turn is lost, and nothing is sent meanwhile. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { RequestRecord } from "../simulator/index.ts";
import { fiveHours, follow, planStage } from "../support/plan.ts";

const WINDOWS = 100;

/** Windows open within this time after the first request, each at its own moment. */
const FIRST_OPENS_MS = 15_000;
const LAST_OPENS_MS = 45_000;

/** Goal: how long after the reset a request is sent at the latest. */
const RESUMED_WITHIN_MS = 60_000;

test(`${WINDOWS} windows that open again → ${WINDOWS} answers, 0 requests while parked, each soon after its reset`, async (context) => {
  const start = Date.now();
  const step = (LAST_OPENS_MS - FIRST_OPENS_MS) / WINDOWS;
  const keys = Array.from({ length: WINDOWS }, (_, index) => `sk-kimi-${index}`);
  const opensAt = new Map(keys.map((key, index) => [key, start + FIRST_OPENS_MS + index * step]));
  const stage = await planStage(context, (account) => [fiveHours(0, { opensAt: opensAt.get(account) ?? start })]);
  for (const key of keys) stage.simulator.credentials.add(key);

  const run = async (key: string): Promise<string[]> => {
    const events = await follow(stage.kimi({ apiKey: key, onQuota: "wait" }).chat("hi"));
    return events.map(({ type }) => type);
  };
  const turns = await Promise.all(keys.map(run));

  const parked = turns.filter((types) => types.includes("parked")).length;
  const answered = turns.filter((types) => types.at(-1) === "done").length;
  const account = ({ headers }: RequestRecord): string =>
    /^Bearer (.+)$/.exec(headers["authorization"] ?? "")?.[1] ?? "";
  const after = stage
    .requests("chat")
    .filter(({ status }) => status === 200)
    .map((request) => request.time - (opensAt.get(account(request)) ?? 0));
  const [least, most] = [Math.min(...after), Math.max(...after)];
  context.diagnostic(`${parked} parked, ${answered} answered, sent ${least} to ${most} ms after the reset`);
  // On a slow machine, the last requests may meet a window that is open again.
  assert.ok(parked > WINDOWS / 2);
  assert.equal(answered, WINDOWS);
  assert.equal(stage.requests("chat").length, WINDOWS + parked, "one refusal for each that waited, and one answer");
  assert.ok(least >= 0 && most <= RESUMED_WITHIN_MS);
});
