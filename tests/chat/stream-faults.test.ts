/** Faults on the connection, in both dialects: retries, timeouts, cuts, aborts; exactly one terminal event each time. */
import assert from "node:assert/strict";
import { createServer } from "node:net";
import { before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { isContextOverflow } from "@earendil-works/pi-ai";
import { isRetryableAssistantError } from "@earendil-works/pi-ai/utils/retry";
import type { Addon } from "../../extension/native/addon.ts";
import { Notices } from "../../extension/turn/notices.ts";
import { faults, rateLimit } from "../simulator/faults.ts";
import type { Simulator } from "../simulator/index.ts";
import { comment, cut, errorFrame, pause, text, think } from "../simulator/scenario.ts";
import type { Scenario } from "../simulator/types.ts";
import { answerRequests, withSimulator } from "../support/simulator.ts";
import { startService } from "../support/service.ts";
import { addon, DIALECTS, type Outcome, runOne, type TurnSetup, visible } from "../support/turn.ts";

let simulator: Simulator;
let native: Addon;

before(() => (native = addon()));
withSimulator((given) => (simulator = given));

/** Short compared to the real timeouts, long compared to a healthy answer on a busy machine; milliseconds. */
const CLOCK = 2000;
const FAST = { KIMI_CODE_FIRST_TIMEOUT_MS: `${CLOCK}`, KIMI_CODE_GAP_TIMEOUT_MS: `${CLOCK}` };

/** Longer than any timeout and any abort. */
const SILENCE = 60_000;

function ends(outcome: Outcome): string {
  const terminal = outcome.kinds.filter((kind) => kind === "done" || kind === "error");
  assert.equal(terminal.length, 1, "exactly one terminal event");
  assert.equal(outcome.kinds.at(-1), terminal[0], "and nothing after it");
  return outcome.message.stopReason;
}

function piRetries(outcome: Outcome): boolean {
  return isRetryableAssistantError(outcome.message);
}

for (const dialect of DIALECTS) {
  describe(`stream faults, ${dialect}`, () => {
    const turn = (setup: Partial<TurnSetup> = {}): Promise<Outcome> =>
      runOne(native, { baseUrl: simulator.baseUrl, apiKey: simulator.apiKey, dialect, ...setup });
    const play = (...scenarios: Scenario[]): void => simulator.enqueue(...scenarios);
    // Number of chat requests: after a quota error the quota is requested as well.
    const requests = (): number => answerRequests(simulator).length;

    test("a request → goes to the dialect's endpoint with the credential as bearer token", async () => {
      play({ steps: [text("ok")] });
      assert.equal(ends(await turn()), "stop");
      const [request] = answerRequests(simulator);
      assert.equal(request?.endpoint, dialect === "openai" ? "chat" : "messages");
      assert.equal(request?.auth, "bearer");
      assert.equal(request?.headers["anthropic-version"], dialect === "openai" ? undefined : "2023-06-01");
    });

    test("overloaded service → retried, with a notice", async () => {
      const lines: (string | undefined)[] = [];
      const notices = new Notices();
      notices.attach({ setStatus: (_key, line) => lines.push(line), notify: () => {} });
      play(faults.overloaded, { steps: [text("ok")] });
      const outcome = await turn({ notices });
      assert.equal(ends(outcome), "stop");
      assert.equal(requests(), 2);
      assert.equal(outcome.kinds.filter((kind) => kind === "start").length, 1);
      assert.match(lines[0] ?? "", /overloaded, attempt 2 of 10 in 1 s/);
      assert.equal(lines.at(-1), undefined, "the line is cleared");
    });

    test("retries used up → Pi does not retry either", async () => {
      simulator.setDefault(faults.overloaded);
      const outcome = await turn({ env: { KIMI_LOOP_MAX_ATTEMPTS_PER_STEP: "2" } });
      assert.equal(ends(outcome), "error");
      assert.equal(requests(), 2);
      assert.match(outcome.message.errorMessage ?? "", /Gave up after 2 attempts.*overloaded/);
      assert.equal(piRetries(outcome), false);
    });

    test("Retry-After → honored up to the limit", async () => {
      play(rateLimit(1), { steps: [text("ok")] });
      const patient = await turn();
      assert.ok(patient.took >= 990, `waited ${patient.took} ms`);
      simulator.reset();
      play(rateLimit(600), { steps: [text("never asked for")] });
      const refused = await turn({ options: { maxRetryDelayMs: 60_000 } });
      assert.equal(ends(refused), "error");
      assert.equal(requests(), 1);
      assert.match(refused.message.errorMessage ?? "", /wait 10 min .* 60 s are allowed/);
      assert.equal(piRetries(refused), false);
      assert.equal(isContextOverflow(refused.message), false);
    });

    for (const name of ["quota", "cycle-limit", "membership", "plan-k3", "not-agent", "bad-image", "risk"] as const) {
      test(`'${name}' → retried neither by us nor by Pi`, async () => {
        play(faults[name]);
        const outcome = await turn();
        assert.equal(ends(outcome), "error");
        assert.equal(requests(), 1);
        assert.equal(piRetries(outcome), false, outcome.message.errorMessage);
        assert.equal(isContextOverflow(outcome.message), false);
      });
    }

    for (const name of ["overflow", "too-large"] as const) {
      test(`'${name}' → Pi compacts the conversation`, async () => {
        play(faults[name]);
        assert.equal(isContextOverflow((await turn()).message), true);
        assert.equal(requests(), 1);
      });
    }

    test("idle before the first token → retried once on another connection", async () => {
      play({ steps: [pause(SILENCE)] }, { steps: [text("ok")] });
      assert.equal(visible((await turn({ env: FAST })).message), "ok");
      const [first, second] = answerRequests(simulator);
      assert.notEqual(first?.connection, second?.connection);
    });

    test("idle twice in a row → the turn fails", async () => {
      simulator.setDefault({ hang: "headers" });
      const outcome = await turn({ env: { KIMI_CODE_HEADERS_TIMEOUT_MS: "1200" } });
      assert.equal(ends(outcome), "error");
      assert.equal(requests(), 2);
      assert.match(outcome.message.errorMessage ?? "", /Gave up after 2 attempts.*silent for 1.2 s while waiting/);
      assert.equal(piRetries(outcome), false);
    });

    test("idle after the first token → the text is kept, no retry", async () => {
      play({ steps: [text("half an ans"), pause(SILENCE)] });
      simulator.enqueue({ steps: [text("duplicate")] });
      const outcome = await turn({ env: FAST });
      assert.equal(ends(outcome), "error");
      assert.equal(visible(outcome.message), "half an ans");
      assert.equal(requests(), 1);
      assert.equal(outcome.kinds.at(-2), "text_end", "the block is closed");
    });

    test("keep-alives without content → do not reset the timeout", async () => {
      const beats = Array.from({ length: 600 }, () => [comment("keep-alive"), pause(100)]).flat();
      play({ steps: [...beats, text("late")] }, { steps: [text("ok")] });
      assert.equal(visible((await turn({ env: FAST })).message), "ok");
      assert.equal(requests(), 2);
    });

    test("long thinking → does not count as idle", async () => {
      play({ steps: [think("one two", { size: 4, pauseMs: CLOCK + 500 }), text("ok")] });
      const env = { ...FAST, KIMI_CODE_THINKING_GAP_TIMEOUT_MS: `${SILENCE}` };
      assert.equal(visible((await turn({ env })).message), "ok");
      assert.equal(requests(), 1);
    });

    test("complete answer, connection left open → complete", async () => {
      const usage = { raw: { prompt_tokens: 1, completion_tokens: 1, input_tokens: 1, output_tokens: 1 } };
      const end = dialect === "openai" ? [text("ok"), { finish: "stop", usage }] : [text("ok")];
      play({ steps: end as Scenario["steps"] & object, omitDone: true, hang: "body" });
      const outcome = await turn({ env: { KIMI_CODE_GAP_TIMEOUT_MS: "60000" } });
      assert.equal(ends(outcome), "stop");
      assert.ok(outcome.took < 30_000);
    });

    test("busy event loop → not taken for an idle service", async () => {
      const service = await startService();
      try {
        await service.enqueue({ steps: [text("a b c d e f", { size: 2, pauseMs: 40 }), pause(100), text("!")] });
        let blocked = false;
        const onEvent = (): void => {
          if (blocked) return;
          blocked = true;
          Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2 * CLOCK);
        };
        const { baseUrl, apiKey } = service;
        assert.equal(visible((await turn({ baseUrl, apiKey, env: FAST, onEvent })).message), "a b c d e f!");
      } finally {
        service.stop();
      }
    });

    for (const how of ["end", "close", "reset"] as const) {
      test(`stream cut by '${how}' → the text so far is kept`, async () => {
        play({ steps: [text("half"), pause(60), cut(how)] });
        const outcome = await turn();
        assert.equal(ends(outcome), "error");
        assert.equal(visible(outcome.message), "half");
        assert.equal(requests(), 1);
        assert.equal(piRetries(outcome), true, outcome.message.errorMessage);
      });
    }

    test("stream cut before the first token → retried", async () => {
      play({ steps: [comment("x"), cut("close")] }, { steps: [text("ok")] });
      assert.equal(visible((await turn()).message), "ok");
      assert.equal(requests(), 2);
    });

    test("error with a retryable status after output → no retry", async () => {
      play({ steps: [text("half"), errorFrame("401 Unauthorized: invalid api key")] });
      const outcome = await turn();
      assert.equal(ends(outcome), "error");
      assert.equal(visible(outcome.message), "half");
      assert.equal(requests(), 1);
    });

    test("reasoning without an answer → retried once, shown once", async () => {
      play({ steps: [think("Hm.")] }, { steps: [think("Hm, again."), text("ok")] });
      const outcome = await turn();
      assert.equal(ends(outcome), "stop");
      assert.deepEqual(
        outcome.message.content.map((block) => (block.type === "thinking" ? block.thinking : visible(outcome.message))),
        ["Hm.", "ok"],
      );
      simulator.reset();
      simulator.setDefault({ steps: [think("Only this.")] });
      const bare = await turn();
      assert.equal(ends(bare), "stop");
      assert.equal(requests(), 2);
      assert.equal(bare.message.content.length, 1);
    });

    test("empty answer → an error after the retries", async () => {
      simulator.setDefault({ steps: [{ finish: "stop" }] });
      const outcome = await turn();
      assert.equal(ends(outcome), "error");
      assert.equal(requests(), 2);
      assert.equal(piRetries(outcome), false);
    });

    test("repeated call ids of the service → made unique within the session", async () => {
      const past = {
        messages: [
          { role: "user", content: "a", timestamp: 1 },
          {
            role: "assistant",
            provider: "kimi-coding",
            stopReason: "toolUse",
            content: [{ type: "toolCall", id: "bash:0", name: "bash", arguments: { command: "ls" } }],
          },
          { role: "toolResult", toolCallId: "bash:0", toolName: "bash", content: [{ type: "text", text: "x" }] },
        ],
      };
      play({ steps: [{ toolCall: { id: "bash:0", name: "bash", arguments: {} } }] });
      const { message } = await turn({ context: past });
      assert.equal((message.content[0] as { id?: string }).id, "bash:0__2");
    });

    test("consecutive turns → share a connection", async () => {
      simulator.setDefault({ steps: [text("ok")] });
      for (let round = 0; round < 10; round += 1) {
        await turn();
        await sleep(50);
      }
      // The rest of a body is drained in a background task; a turn that starts before that opens a second connection.
      const connections = new Set(simulator.requests.map(({ connection }) => connection));
      assert.ok(connections.size <= 2, `${connections.size} connections for 10 turns`);
    });

    describe("abort", () => {
      // The last member says which request or event shows that the turn has come this far.
      const cases: [string, Scenario[], "asked" | "answering" | "event" | "line"][] = [
        ["while waiting for the head", [{ hang: "connect" }], "asked"],
        ["while nothing has been said", [{ steps: [pause(SILENCE)] }], "answering"],
        ["in the middle of the answer", [{ steps: [text("a b"), pause(SILENCE)] }], "event"],
        ["during the pause before a retry", [rateLimit(30), { steps: [text("never")] }], "line"],
      ];
      for (const [name, scenarios, moment] of cases) {
        test(name, async () => {
          play(...scenarios);
          const controller = new AbortController();
          const notices = new Notices();
          const event = Promise.withResolvers<void>();
          const line = Promise.withResolvers<void>();
          notices.attach({ setStatus: () => line.resolve(), notify: () => {} });
          const onEvent = ({ type }: { type: string }): void => void (type === "text_delta" && event.resolve());
          const running = turn({ options: { signal: controller.signal }, notices, onEvent });
          if (moment === "asked") await simulator.waitForRequest(() => true);
          if (moment === "answering") await simulator.waitForRequest(({ status }) => status === 200);
          if (moment === "event") await event.promise;
          if (moment === "line") await line.promise;
          const aborted = performance.now();
          controller.abort();
          const outcome = await running;
          const reaction = performance.now() - aborted;
          assert.equal(ends(outcome), "aborted");
          assert.ok(reaction < 10_000, `took ${reaction} ms`);
          assert.equal(requests(), 1);
          if (moment !== "line") {
            const gone = await simulator.waitForRequest(({ ended }) => ended !== undefined);
            assert.equal(gone.ended, "aborted", "the socket is closed");
          }
        });
      }
    });
  });
}

test("abort while connecting → the socket is closed", async () => {
  const controller = new AbortController();
  let connections = 0;
  const closed = Promise.withResolvers<void>();
  // Accepts the connection and then sends nothing, so that the TLS handshake never ends.
  const server = createServer((socket) => {
    connections += 1;
    socket.on("error", () => {});
    socket.on("close", () => closed.resolve());
    socket.resume();
    controller.abort();
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const { port } = server.address() as { port: number };
  const outcome = await runOne(native, {
    baseUrl: `https://127.0.0.1:${port}/coding`,
    options: { signal: controller.signal },
  });
  assert.equal(ends(outcome), "aborted");
  await closed.promise;
  assert.equal(connections, 1);
  server.close();
});

test("a document instead of a stream → the error quotes it", async () => {
  simulator.intercept("chat", {
    status: 200,
    headers: { "content-type": "text/html" },
    body: "<title>Sign in</title>",
  });
  const env = { KIMI_LOOP_MAX_ATTEMPTS_PER_STEP: "1" };
  const portal = await runOne(native, { baseUrl: simulator.baseUrl, apiKey: simulator.apiKey, env });
  assert.match(portal.message.errorMessage ?? "", /text\/html instead of a stream: Sign in/);
});
