/** What the ledger teaches, in real Pi: the cost of a request before it is sent, the forecast in the footer, advice to compact. */
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { type PiEvent, RpcPi } from "../support/pi.ts";
import { fiveHours, planStage, type PlanStage } from "../support/plan.ts";

const HOUR = 3_600_000;

function stage(context: TestContext): Promise<PlanStage> {
  const weights = { uncached: 1e-4, cached: 1e-5, output: 1e-3 };
  return planStage(context, () => [fiveHours(4.9 * HOUR, { percent: 0, weights })]);
}

const ui = (method: string) => (event: PiEvent) => event.type === "extension_ui_request" && event["method"] === method;

/** Other sessions of this machine, each request followed by a reading of the quota. */
async function spend({ simulator, kimi }: PlanStage, turns: number): Promise<void> {
  const client = kimi();
  for (let turn = 0; turn < turns; turn += 1) {
    simulator.enqueue({ steps: [{ text: "word ".repeat(20 + ((turn * 37) % 200)) }] });
    await client.chat(`word${turn} `.repeat(2_000 + ((turn * 911) % 3_000))).final();
    await client.usage();
  }
}

/** Starts a Pi that ends with the test. */
function start(context: TestContext, { simulator, home }: PlanStage): RpcPi {
  const env = { KIMI_CODE_BASE_URL: simulator.baseUrl, KIMI_API_KEY: simulator.apiKey };
  const pi = new RpcPi(["--no-session", "--model", "kimi-coding/kimi-for-coding"], { home, env });
  context.after(() => pi.close());
  return pi;
}

const status = (event: PiEvent): string => (ui("setStatus")(event) ? String(event["statusText"] ?? "") : "");

test("25 readings → footer with the forecast, expected cost before a large request, advice once it pays", async (context) => {
  const own = await stage(context);
  await spend(own, 25);
  const session = start(context, own);
  const footer = await session.waitFor((event) => status(event).includes("→ full"));
  assert.match(status(footer), /^Kimi 5h \d+% · resets [\w ]*\d\d:\d\d → full [\w ]*\d\d:\d\d$/);
  // Every question is another one, so the whole prompt is read again: the service's cache begins with the system prompt only.
  own.simulator.settings.promptCacheTtlMs = 0;
  for (const word of ["one ", "two ", "three ", "four "]) await session.prompt(word.repeat(12_000));
  const cost = session.events.map(status).find((text) => text.includes("≈"));
  assert.match(cost ?? "", /^Kimi: ≈ \d+(\.\d)? % of 5h$/);
  const advice = session.events.filter((event) => ui("notify")(event) && String(event["message"]).includes("/compact"));
  assert.equal(advice.length, 1);
  assert.match(
    String(advice[0]?.["message"]),
    /^Kimi: \/compact pays back after \d+ requests?: reading [\d,]+ tokens again costs [\d.]+ % of 5h each time, compacting about [\d.]+ % once\.$/,
  );
});

test("19 readings → no forecast and no cost", async (context) => {
  const own = await stage(context);
  await spend(own, 19);
  const session = start(context, own);
  await session.waitFor((event) => status(event).startsWith("Kimi 5h"));
  await session.prompt("one ".repeat(12_000));
  assert.ok(!session.events.map(status).some((text) => text.includes("≈") || text.includes("full")));
});
