/** The ledger through the client: rows, hidden costs that are found again, spending elsewhere, and the table on screens. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { stripTerminalSequences, visibleWidth } from "@earendil-works/pi-tui";
import type { Theme } from "@earendil-works/pi-coding-agent";
import type { ChatMessage } from "../../index.ts";
import { historyRows } from "../../extension/plan/history.ts";
import type { UsageHistory } from "../../extension/queries.ts";
import { fiveHours, planStage, type PlanStage } from "../support/plan.ts";

const HOUR = 3_600_000;

/** Percent of the window per token; 200 turns of `spend` use about 85 % of it. */
const WEIGHTS = { uncached: 2.84e-5, cached: 2.46e-6, output: 1.19e-4 };

/** Numbers from 0 to 1, the same in every run. */
function numbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
    return state / 2 ** 31;
  };
}

/** Runs turns of a session that grows and is compacted, and reads the quota after each. */
async function spend(stage: PlanStage, turns: number, after: (turn: number) => void = () => undefined): Promise<void> {
  const random = numbers(7);
  const skewed = (middle: number): number => Math.round(middle * Math.exp((random() * 2 - 1) * 1.1));
  const kimi = stage.kimi();
  let messages: ChatMessage[] = [];
  for (let turn = 0; turn < turns; turn += 1) {
    if (messages.length >= 40) messages = [];
    const word = `w${turn} `;
    messages.push({ role: "user", content: word.repeat(skewed(1_600)) });
    const answer = word.repeat(skewed(500));
    stage.simulator.enqueue({ steps: [{ text: answer }] });
    await kimi.chat(messages, { sessionId: `s${turn % 3}` }).final();
    messages.push({ role: "assistant", content: answer });
    after(turn);
    await kimi.usage();
  }
}

function lines(stage: PlanStage): string[] {
  const folder = join(stage.home.home, ".pi", "pi-provider-kimi-code", "ledger");
  const days = readdirSync(folder).filter((name) => name.endsWith(".jsonl"));
  return days.flatMap((day) => readFileSync(join(folder, day), "utf8").split("\n").slice(0, -1));
}

test("200 turns with hidden costs and a foreign spender → costs within 10 %, elsewhere within 2 points", async (context) => {
  const stage = await planStage(context, () => [fiveHours(3 * HOUR, { percent: 0, weights: WEIGHTS })]);
  let exact = 0;
  await spend(stage, 200, (turn) => {
    const [window] = stage.windows();
    if (window !== undefined && turn === 90) window.percent += 6;
    exact = window?.percent ?? 0;
  });
  context.diagnostic(`the window is used to ${exact.toFixed(1)} %`);
  assert.ok(exact > 80 && exact < 100, `${exact}`);
  const history = await stage.kimi().usage({ history: "24h", by: "model" });
  const found = history.weights["5h"]?.["kimi-for-coding"];
  assert.ok(found !== undefined);
  for (const part of ["uncached", "cached", "output"] as const) {
    const miss = found[part] / WEIGHTS[part] - 1;
    context.diagnostic(`${part}: ${(miss * 100).toFixed(1)} % off`);
    assert.ok(Math.abs(miss) <= 0.1, `${part}: ${miss}`);
  }
  const elsewhere = history.elsewhere["5h"] ?? 0;
  context.diagnostic(`elsewhere: ${elsewhere} of 6 points`);
  assert.ok(Math.abs(elsewhere - 6) <= 2, `${elsewhere}`);
  const [row] = history.rows;
  assert.equal(row?.requests, 200);
  assert.ok(Math.abs((row?.percent["5h"] ?? 0) - (exact - 6)) < 4);
  assert.equal(row?.percent["7d"], null);
});

test("rows → by session, project, model and day; 19 readings claim nothing; the ledger names nothing", async (context) => {
  const stage = await planStage(context, () => [fiveHours(3 * HOUR, { percent: 0, weights: WEIGHTS })]);
  await spend(stage, 19);
  const written = lines(stage);
  assert.equal(written.length, 19);
  assert.ok(written.every((line) => Buffer.byteLength(line) < 200));
  assert.doesNotMatch(written.join(""), /w1 |"s1"|kimi-test/);
  const kimi = stage.kimi();
  const counts = { session: 3, project: 1, model: 1, day: 1 } as const;
  for (const [by, rows] of Object.entries(counts) as [keyof typeof counts, number][]) {
    const history = await kimi.usage({ history: "7d", by, sessionId: "s1" });
    assert.deepEqual([history.by, history.rows.length], [by, rows]);
    const requests = history.rows.reduce((sum, row) => sum + row.requests, 0);
    assert.equal(requests, 19);
    assert.ok(history.rows.every(({ percent }) => percent["5h"] === null && percent["7d"] === null));
    assert.deepEqual([history.elsewhere["5h"], history.forecast["5h"]?.fullAt], [null, null]);
    assert.equal(
      history.rows.some(({ label }) => label === "this session"),
      by === "session",
    );
    if (by === "project") assert.equal(history.rows[0]?.label, "this project", "the folder in which the program runs");
  }
  for (const history of ["1m", "week", "0d"]) {
    await assert.rejects(kimi.usage({ history }), { code: "bad_request", message: /no span of time; write 7d or 24h/ });
  }
  const other = stage.kimi({ apiKey: "sk-kimi-other" });
  assert.deepEqual((await other.usage({ history: "7d" })).rows, [], "another account has its own rows");
});

/** Colors as escape sequences, so that a width counted in characters would be wrong. */
const theme = { fg: (_color: string, text: string) => `\u001b[32m${text}\u001b[39m` } as unknown as Theme;

function sample(rows: number, percent: number | null): UsageHistory {
  const numbers = { requests: 1234, uncached: 98_765_432, cached: 9_876_543_210, output: 1_234_567, reasoning: 5 };
  return {
    from: 0,
    to: 1,
    by: "project",
    rows: Array.from({ length: rows }, (_, index) => ({
      key: `${index}`,
      label: index === 0 ? "this project" : `project ${index} with a name that is far too long`,
      ...numbers,
      percent: { "5h": percent, "7d": percent === null ? null : percent / 7 },
    })),
    elsewhere: { "5h": percent, "7d": 3.4 },
    weights: {},
    forecast: { "5h": { fullAt: Date.now() + HOUR }, "7d": { fullAt: null } },
    advice: {
      requests: 3,
      window: "5h",
      contextTokens: 182_000,
      perRequest: 1.8,
      once: 2.2,
      text: "/compact pays back after 3 requests: reading 182,000 tokens again costs 1.8 % of 5h each time, compacting about 2.2 % once.",
    },
  };
}

for (const width of [60, 80, 100, 160]) {
  test(`table, ${width} columns → no row is wider, bars and numbers are aligned`, () => {
    for (const history of [sample(3, 12.4), sample(40, 100), sample(2, null)]) {
      const painted = historyRows(history, "7d", width, theme);
      assert.ok(painted.every((row) => visibleWidth(row) <= width - 2));
      const rows = historyRows(history, "7d", width);
      assert.deepEqual(painted.map(stripTerminalSequences), rows);
      const [, head = "", first = ""] = rows;
      assert.match(first, /^this project +[█▏▎▍▌▋▊▉░]{4}/);
      assert.match(first, history.rows[0]?.percent["5h"] === null ? /– +– +1234/ : /\d% +\d+\.\d% +1234/);
      assert.equal(head.includes("uncached"), width >= 100);
      assert.ok(rows.length <= 30, "few enough for one screen");
      assert.match(rows.join(" "), /full .*at \d\d:\d\d\..*\/compact pays back after 3 requests/);
    }
  });
}

test("table without rows → says so", () => {
  assert.deepEqual(historyRows({ ...sample(0, null), advice: null }, "24h", 100), [
    "No request of the last 24h is recorded.",
  ]);
});
