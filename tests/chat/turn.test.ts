/** One turn without Pi: event contract, hooks, abort, missing parts. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { AssistantMessageEvent } from "@earendil-works/pi-ai";
import type { TurnOptions } from "../../extension/turn/request.ts";
import type { RequestRecord, Simulator } from "../simulator/index.ts";
import { answerRequests, withSimulator } from "../support/simulator.ts";
import { bodyOf } from "../support/pi.ts";
import { addon, type Outcome, QUESTION, runOne, type TurnSetup, visible } from "../support/turn.ts";

const native = addon();
let simulator: Simulator;

withSimulator((given) => (simulator = given));

function turn(options: TurnOptions = {}, setup: Partial<TurnSetup> = {}): Promise<Outcome> {
  return runOne(native, { baseUrl: simulator.baseUrl, apiKey: simulator.apiKey, options, ...setup });
}

function terminals(events: AssistantMessageEvent[]): number {
  return events.filter(({ type }) => type === "done" || type === "error").length;
}

describe("turn: event contract", () => {
  test("any turn → start first, balanced blocks, one terminal event last", async () => {
    simulator.enqueue({
      steps: [{ thinking: "a", size: 1 }, { text: "b" }, { toolCall: { name: "t", arguments: { x: 1 } } }],
    });
    const { kinds, message } = await turn();
    assert.deepEqual(
      kinds.filter((kind) => !kind.endsWith("_delta")),
      ["start", "thinking_start", "thinking_end", "text_start", "text_end", "toolcall_start", "toolcall_end", "done"],
    );
    assert.equal(message.stopReason, "toolUse");
    assert.deepEqual(message.content.at(-1), { type: "toolCall", id: "t:0", name: "t", arguments: { x: 1 } });
  });

  test("every event → carries the same live message, whose blocks are never replaced", async () => {
    simulator.enqueue({ steps: [{ text: "one two three", size: 2 }] });
    const { events, message } = await turn();
    for (const event of events) if ("partial" in event) assert.equal(event.partial, message);
  });

  test("final message → plain JSON", async () => {
    simulator.enqueue({ steps: [{ thinking: "a" }, { text: "b" }] });
    const { message } = await turn();
    assert.deepEqual(JSON.parse(JSON.stringify(message)), structuredClone(message));
  });

  test("both forms of a context → the same request", async () => {
    const tool = { name: "t", description: "d", parameters: { type: "object", properties: {} } };
    const shapes = [
      { systemPrompt: "Be brief.", tools: [tool], messages: QUESTION.messages },
      {
        messages: [
          { role: "system", content: "", sections: { a: "Be brief." }, toolsAdded: [tool], timestamp: 1 },
          ...QUESTION.messages,
        ],
      },
    ];
    for (const shape of shapes) {
      simulator.enqueue({ steps: [{ text: "ok" }] });
      await turn({}, { context: shape });
    }
    const [first, second] = answerRequests(simulator);
    assert.equal(first?.rawBody.toString(), second?.rawBody.toString());
  });

  test("streaming arguments → grow in the one live object", async () => {
    const value = { path: "a.txt", edits: [{ old: "x", new: "ü\n" }], deep: { n: -1.5e3, t: true, z: null } };
    simulator.enqueue({ steps: [{ toolCall: { name: "t", arguments: value }, size: 3, pauseMs: 25 }] });
    let live: unknown;
    const seen = new Set<string>();
    const onEvent = (event: AssistantMessageEvent): void => {
      if (event.type === "toolcall_start") live = (event.partial.content[0] as { arguments: unknown }).arguments;
      if (event.type === "toolcall_delta") seen.add(JSON.stringify(live));
    };
    await turn({}, { onEvent });
    assert.deepEqual(live, value);
    assert.ok(seen.size > 1, "the preview changed while the text arrived");
  });

  test("arguments that are not JSON → an empty object and the reason", async () => {
    simulator.enqueue({ steps: [{ toolCall: { name: "t", arguments: '{"a": tru' } }] });
    const [call] = (await turn()).message.content as unknown as { arguments: unknown; argumentsError?: string }[];
    assert.deepEqual(call?.arguments, {});
    assert.match(call?.argumentsError ?? "", /not a JSON object/);
  });

  test("argument named __proto__ → an ordinary member", async () => {
    simulator.enqueue({ steps: [{ toolCall: { name: "t", arguments: '{"__proto__":{"polluted":1},"a":1}' } }] });
    const [call] = (await turn()).message.content as { arguments: object }[];
    assert.deepEqual(Object.keys(call?.arguments ?? {}), ["__proto__", "a"]);
    assert.equal(Object.getPrototypeOf(call?.arguments), Object.prototype);
  });
});

describe("turn: hooks", () => {
  test("payload, request, response, start, raw events → called in this order", async () => {
    const order: string[] = [];
    simulator.enqueue({ steps: [{ text: "ok" }] });
    const { kinds } = await turn({
      onPayload: async (payload) => {
        await sleep(20);
        order.push(`payload:${(payload as { model: string }).model}:${answerRequests(simulator).length}`);
        return undefined;
      },
      onResponse: async ({ status }) => {
        await sleep(20);
        order.push(`response:${status}`);
      },
      onProviderStreamEvent: (event) => {
        if (order.at(-1) !== "raw") order.push("raw");
        assert.equal((event as { object?: string }).object, "chat.completion.chunk");
      },
    });
    assert.deepEqual(order, ["payload:kimi-for-coding:0", "response:200", "raw"]);
    assert.equal(kinds.at(-1), "done");
  });

  test("turn that ends while a hook runs → every event arrives after it", async () => {
    simulator.enqueue({ steps: [{ text: "ok" }] });
    const { kinds, message } = await turn({ onResponse: () => sleep(300) });
    assert.equal(kinds.at(-1), "done");
    assert.equal(visible(message), "ok");
  });

  test("payload hook that changes its object → the changed body is sent", async () => {
    simulator.enqueue({ steps: [{ text: "ok" }] });
    await turn({
      onPayload: (payload) => {
        (payload as { mark: number }).mark = 1;
        return undefined;
      },
    });
    assert.equal(bodyOf<{ mark: number }>(answerRequests(simulator)[0]).mark, 1);
  });

  for (const hook of ["onPayload", "onResponse", "onProviderStreamEvent"] as const) {
    test(`${hook} that throws → the turn ends with its message`, async () => {
      simulator.enqueue({ steps: [{ text: "ok" }] });
      const broken = () => {
        throw new Error("hook is broken");
      };
      const { events, message } = await turn({ [hook]: broken });
      assert.equal(message.errorMessage, "hook is broken");
      assert.equal(terminals(events), 1);
    });
  }
});

describe("turn: abort", () => {
  test("before the start → nothing is sent", async () => {
    const { message, kinds } = await turn({ signal: AbortSignal.abort() });
    assert.deepEqual([message.stopReason, kinds], ["aborted", ["error"]]);
    assert.equal(simulator.requests.length, 0);
  });

  // Each scenario lasts much longer than an abort may take, even on a busy machine.
  for (const [moment, scenario, reached] of [
    ["waiting for headers", { hang: "headers" }, () => true],
    [
      "waiting for the first words",
      { steps: [{ comment: "alive" }, { pauseMs: 60_000 }, { text: "late" }] },
      ({ status }: RequestRecord) => status === 200,
    ],
    [
      "streaming",
      { steps: [{ repeat: { kind: "text", count: 30_000, text: "word ", perSecond: 500 } }] },
      ({ status }: RequestRecord) => status === 200,
    ],
  ] as const) {
    test(`${moment} → the turn ends at once`, async () => {
      simulator.enqueue(scenario as never);
      const controller = new AbortController();
      const words = Promise.withResolvers<void>();
      const onEvent = ({ type }: { type: string }): void => void (type === "text_delta" && words.resolve());
      const running = turn({ signal: controller.signal }, { onEvent });
      await simulator.waitForRequest(reached);
      if (moment === "streaming") await words.promise;
      const at = performance.now();
      controller.abort();
      const { events, message } = await running;
      assert.ok(performance.now() - at < 20_000);
      await simulator.waitForRequest(({ ended }) => ended === "aborted");
      assert.equal(message.stopReason, "aborted");
      assert.equal(message.errorMessage, "Request was aborted");
      assert.equal(terminals(events), 1);
      assert.equal(events.at(-1)?.type, "error");
    });
  }

  test("hook that hangs → does not delay the abort", async () => {
    const controller = new AbortController();
    const onPayload = (): Promise<never> => {
      setImmediate(() => controller.abort());
      return new Promise(() => {});
    };
    const { message } = await turn({ signal: controller.signal, onPayload });
    assert.equal(message.stopReason, "aborted");
  });
});

describe("turn: failures", () => {
  test("no key → the error tells how to sign in, no request", async () => {
    const { message, kinds } = await turn({ apiKey: "" });
    assert.deepEqual(kinds, ["error"]);
    assert.match(message.errorMessage ?? "", /kimi\.login\(\).*KIMI_API_KEY/);
    assert.equal(simulator.requests.length, 0);
  });

  for (const [what, scenario, pattern, kept] of [
    ["a stream that is cut", { steps: [{ text: "Partial" }, { cut: "reset" }] }, /connection error/, "Partial"],
    [
      "a stream without an end",
      { steps: [{ text: "Partial" }, { cut: "end" }] },
      /Stream ended without finish_reason/,
      "Partial",
    ],
    [
      "a frame that is no JSON",
      { steps: [{ text: "Partial" }, { raw: "data: {this is not json}\n\n" }] },
      /unreadable frame.*this is not json/,
      "Partial",
    ],
    [
      "an error frame",
      { steps: [{ text: "Partial" }, { errorFrame: { message: "The engine is currently overloaded" } }] },
      /overloaded/,
      "Partial",
    ],
    [
      "an unknown finish reason",
      { steps: [{ text: "Partial" }, { finish: "tired" }] },
      /Provider finish_reason: tired/,
      "Partial",
    ],
    ["a content filter", { steps: [{ text: "Partial" }, { finish: "content_filter" }] }, /content_filter/, "Partial"],
  ] as const) {
    test(`${what} → one terminal event, the text is kept`, async () => {
      simulator.enqueue(scenario as never);
      const { events, message } = await turn();
      assert.equal(terminals(events), 1);
      assert.equal(message.stopReason, "error");
      assert.match(message.errorMessage ?? "", pattern);
      assert.deepEqual(message.content, [{ type: "text", text: kept }]);
    });
  }

  test("overlong frame → quoted with at most 200 characters", async () => {
    simulator.enqueue({ steps: [{ text: "a" }, { raw: `data: ${"x".repeat(5000)}\n\n` }] });
    const { message } = await turn();
    assert.match(message.errorMessage ?? "", /x{200}…$/);
  });

  test("unusable base URL → the error names it", async () => {
    const { message } = await turn({ env: { KIMI_CODE_BASE_URL: "kimi" } });
    assert.match(message.errorMessage ?? "", /base URL "kimi" is unusable/);
  });
});
