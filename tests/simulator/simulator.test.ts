// Compares the simulator with docs/protocol.md: streams, faults, state.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  call,
  calls,
  chunk,
  comment,
  cut,
  errorFrame,
  finish,
  raw,
  repeat,
  text,
  think,
  transcripts,
  transcriptText,
  type Simulator,
} from "./index.ts";
import { chat, chatOverSocket, dig, eventsOf, messages, openAIResult, payloads, readEvents } from "./testing.ts";
import { withSimulator } from "../support/simulator.ts";

let simulator: Simulator;
withSimulator((given) => (simulator = given));

const VERBATIM = [
  "A1",
  "A2",
  "A3",
  "A4",
  "A5",
  "A6",
  "A7",
  "A8",
  "A9",
  "A10",
  "A11",
  "A12a",
  "A12b",
  "B1",
  "B2",
  "B3",
  "B4",
  "B5",
  "B7",
  "B8",
  "B9",
];

describe("simulator: transcripts", () => {
  for (const name of VERBATIM) {
    test(`${name} named in the prompt → arrives byte for byte`, async () => {
      const send = name.startsWith("A") ? chat : messages;
      const response = await send(simulator, { messages: [{ role: "user", content: `[[scenario:${name}]]` }] });
      assert.equal(response.status, 200);
      assert.match(response.headers.get("content-type") ?? "", /^text\/event-stream/);
      assert.equal(response.headers.get("x-trace-id"), "trace-abc-123");
      assert.equal(await response.text(), transcriptText(name));
      assert.equal(simulator.requests[0]?.scenario, name);
    });
  }

  test("every frame but the deliberately broken one → JSON", () => {
    for (const name of VERBATIM.filter((one) => one !== "A12b")) {
      assert.doesNotThrow(() => payloads(readEvents(transcriptText(name))), name);
    }
  });

  test("A10b → only starts like the empty-response text", async () => {
    simulator.enqueue(transcripts.A10b);
    assert.equal(openAIResult(await eventsOf(await chat(simulator))).text, "(Empty list)");
  });

  test("A12c → the connection closes after the first frame", async () => {
    simulator.enqueue(transcripts.A12c);
    const { chunks } = await chatOverSocket(simulator);
    assert.equal(readEvents(Buffer.concat(chunks).toString()).length, 1);
    simulator.enqueue(transcripts.A12c);
    const response = await chat(simulator);
    await assert.rejects(response.text());
    assert.equal(simulator.requests[1]?.ended, "cut");
    assert.equal(simulator.requests[1]?.aborted, false);
  });

  test("A13 → the recorded statuses, headers and bodies", async () => {
    const seen: [number, string | null, string][] = [];
    for (const name of ["A13a", "A13b", "A13c", "A13d"] as const) {
      simulator.enqueue(transcripts[name]);
      const response = await chat(simulator);
      seen.push([response.status, response.headers.get("retry-after"), await response.text()]);
    }
    assert.deepEqual(
      seen.map(([status, after]) => [status, after]),
      [
        [401, null],
        [429, "2"],
        [429, null],
        [500, null],
      ],
    );
    assert.match(seen[0]?.[2] ?? "", /"invalid_authentication_error"/);
    assert.match(seen[2]?.[2] ?? "", /"exceeded_current_quota_error"/);
    assert.match(seen[3]?.[2] ?? "", /<title>500 Internal Server Error<\/title>/);
  });

  test("B3b → a signature; B6a-c → the usage variants", async () => {
    const usageOf = async (name: "B6a" | "B6b" | "B6c"): Promise<unknown[]> => {
      simulator.enqueue(transcripts[name]);
      const events = payloads(await eventsOf(await messages(simulator)));
      return [dig(events[0], "message", "usage", "input_tokens"), dig(events.at(-2), "usage", "input_tokens")];
    };
    assert.deepEqual(await usageOf("B6a"), [100, 105]);
    assert.deepEqual(await usageOf("B6b"), [264, 264]);
    assert.deepEqual(await usageOf("B6c"), [100, undefined]);
    simulator.enqueue(transcripts.B3b);
    assert.match(await (await messages(simulator)).text(), /"signature":"sig_xyz"/);
  });
});

describe("simulator: scenarios in both dialects", () => {
  test("thinking, text and a call → deltas of the requested size", async () => {
    const steps = [
      think("abcdef", { size: 2 }),
      text("Grüße 👋🏽", { size: 3 }),
      call("read", { path: "a" }, { size: 4 }),
    ];
    simulator.enqueue({ steps }, { steps });
    const openai = payloads(await eventsOf(await chat(simulator)));
    const thoughts = openai.map((one) => dig(one, "choices", 0, "delta", "reasoning_content")).filter(Boolean);
    assert.deepEqual(thoughts, ["ab", "cd", "ef"]);
    assert.equal(openAIResult(openai.map((one) => ({ event: undefined, data: JSON.stringify(one) }))).text, "Grüße 👋🏽");
    const parts = openai.map((one) => dig(one, "choices", 0, "delta", "tool_calls", 0)).filter(Boolean);
    assert.equal(dig(parts[0], "id"), "read:0");
    assert.equal(parts.map((one) => dig(one, "function", "arguments")).join(""), '{"path":"a"}');
    assert.equal(dig(openai.at(-1), "choices", 0, "finish_reason"), "tool_calls");

    const events = await eventsOf(await messages(simulator));
    const kinds = payloads(events).map((one) => `${dig(one, "type")} ${dig(one, "index") ?? ""}`.trim());
    assert.deepEqual(
      [...new Set(kinds)],
      [
        "message_start",
        "content_block_start 0",
        "content_block_delta 0",
        "content_block_stop 0",
        "content_block_start 1",
        "content_block_delta 1",
        "content_block_stop 1",
        "content_block_start 2",
        "content_block_delta 2",
        "content_block_stop 2",
        "message_delta",
        "message_stop",
      ],
    );
    assert.ok(events.every((one) => one.event === dig(JSON.parse(one.data), "type")));
    assert.equal(dig(payloads(events).at(-2), "delta", "stop_reason"), "tool_use");
  });

  test("parallel calls → fragments alternate", async () => {
    const step = calls(
      [
        { name: "a", arguments: { x: 1 } },
        { name: "b", arguments: { y: 2 } },
      ],
      { size: 4 },
    );
    simulator.enqueue({ steps: [step] }, { steps: [step] });
    const openai = payloads(await eventsOf(await chat(simulator)));
    const indices = openai.map((one) => dig(one, "choices", 0, "delta", "tool_calls", 0, "index"));
    assert.deepEqual(
      indices.filter((index) => index !== undefined),
      [0, 1, 0, 1, 0, 1],
    );
    const anthropic = payloads(await eventsOf(await messages(simulator)));
    const deltas = anthropic.filter((one) => one["type"] === "content_block_delta").map((one) => one["index"]);
    assert.deepEqual(deltas, [0, 1, 0, 1]);
  });

  test("empty thinking → sent as such", async () => {
    simulator.enqueue({ steps: [think(""), text("ok")] });
    const openai = payloads(await eventsOf(await chat(simulator)));
    assert.equal(dig(openai[1], "choices", 0, "delta", "reasoning_content"), "");
  });

  test("usage → where the scenario puts it, by default where the service does", async () => {
    const usage = { prompt: 12, completion: 6, cached: 2 };
    const wanted = { prompt_tokens: 12, completion_tokens: 6, total_tokens: 18, cached_tokens: 2 };
    for (const [place, path] of [
      ["choice", ["choices", 0, "usage"]],
      ["top", ["usage"]],
      ["chunk", ["usage"]],
      [undefined, ["choices", 0, "usage"]],
    ] as const) {
      simulator.enqueue({ steps: [text("x"), finish("stop", usage, place)] });
      const last = payloads(await eventsOf(await chat(simulator))).at(-1);
      assert.deepEqual(dig(last, ...path), wanted);
      if (place === "chunk") assert.deepEqual(dig(last, "choices"), []);
    }
    simulator.enqueue({ steps: [text("x"), finish("stop", false)] });
    assert.doesNotMatch(await (await chat(simulator)).text(), /usage/);
    simulator.enqueue({ steps: [text("x"), finish("stop", usage)] });
    const delta = payloads(await eventsOf(await messages(simulator))).at(-2);
    assert.equal(dig(delta, "usage", "input_tokens"), 10);
    assert.equal(dig(delta, "usage", "cache_read_input_tokens"), 2);
  });

  test("comments, raw chunks, error frames, other finish reasons → sent", async () => {
    simulator.enqueue({ steps: [comment("keep-alive"), chunk({ odd: true }), text("x"), finish("weird")] });
    const body = await (await chat(simulator)).text();
    assert.match(body, /^: keep-alive\n\ndata: {"odd":true}\n\n/);
    assert.match(body, /"finish_reason":"weird".*\n\ndata: \[DONE\]\n\n$/);
    const overloaded = errorFrame("The engine is currently overloaded", "engine_overloaded_error");
    simulator.enqueue({ steps: [text("Partial"), overloaded] }, { steps: [text("Partial"), overloaded] });
    const frames = await eventsOf(await chat(simulator));
    assert.equal(dig(JSON.parse(frames.at(-1)?.data ?? ""), "error", "type"), "engine_overloaded_error");
    const events = await eventsOf(await messages(simulator));
    assert.equal(events.at(-1)?.event, "error");
  });

  test("stream: false → one document in either dialect", async () => {
    const steps = [think("t"), text("x"), call("read", { path: "a" })];
    simulator.enqueue({ steps }, { steps });
    const openai = (await (await chat(simulator, { stream: false })).json()) as never;
    assert.equal(dig(openai, "object"), "chat.completion");
    assert.equal(dig(openai, "choices", 0, "message", "reasoning_content"), "t");
    assert.equal(dig(openai, "choices", 0, "finish_reason"), "tool_calls");
    const anthropic = (await (await messages(simulator, { stream: false })).json()) as never;
    assert.deepEqual(dig(anthropic, "content", 2), {
      type: "tool_use",
      id: "read:0",
      name: "read",
      input: { path: "a" },
    });
    assert.equal(typeof dig(anthropic, "usage", "prompt_tokens"), "number");
  });

  test("unknown models → run on the default alias, and the answer says so", async () => {
    simulator.enqueue({ steps: [text("x")] });
    const first = payloads(await eventsOf(await chat(simulator, { model: "kimi-next" })))[0];
    assert.equal(dig(first, "model"), "kimi-for-coding");
  });
});

describe("simulator: bytes on the wire", () => {
  const steps = [text("Grüße 👋 from 北京", { size: 5 })];

  for (const chunkBytes of [1, 7, 4096, "random"] as const) {
    test(`chunkBytes ${chunkBytes} → other chunks, same bytes`, async () => {
      simulator.enqueue({ steps, chunkBytes });
      const { chunks, head } = await chatOverSocket(simulator);
      assert.match(head, /^HTTP\/1\.1 200/);
      const limit = chunkBytes === "random" ? 48 : chunkBytes;
      assert.ok(
        chunks.every((piece) => piece.length <= limit),
        "a piece is too long",
      );
      assert.equal(openAIResult(readEvents(Buffer.concat(chunks).toString())).text, "Grüße 👋 from 北京");
      if (chunkBytes === 4096) assert.equal(chunks.length, 1);
      if (chunkBytes === 1) assert.ok(chunks.length > 500);
    });
  }

  test("no chunkBytes → one chunk per event", async () => {
    simulator.enqueue({ steps });
    const { chunks } = await chatOverSocket(simulator);
    assert.ok(chunks.every((piece) => piece.toString().endsWith("\n\n")));
    assert.equal(chunks.length, simulator.requests[0]?.sentEvents);
  });

  for (const lineEnding of ["\n", "\r\n", "\r"] as const) {
    test(`line ending ${JSON.stringify(lineEnding)} → used everywhere, in transcripts too`, async () => {
      simulator.enqueue({ steps, lineEnding }, { ...transcripts.A3, lineEnding });
      const own = await (await chat(simulator)).text();
      assert.equal(openAIResult(readEvents(own)).text, "Grüße 👋 from 北京");
      const transcript = await (await chat(simulator)).text();
      assert.equal(transcript, transcriptText("A3").replaceAll("\n", lineEnding));
      for (const other of ["\n", "\r"].filter((one) => !lineEnding.includes(one))) assert.ok(!own.includes(other));
    });
  }

  test("no space, no end marker, no last blank line, a byte order mark → sent like that", async () => {
    simulator.enqueue({ steps, noSpaceAfterData: true });
    assert.doesNotMatch(await (await chat(simulator)).text(), /^data: /m);
    simulator.enqueue({ steps, omitDone: true }, { ...transcripts.A1, omitDone: true });
    assert.doesNotMatch(await (await chat(simulator)).text(), /DONE/);
    assert.doesNotMatch(await (await chat(simulator)).text(), /DONE/);
    simulator.enqueue({ steps, omitFinalBlankLine: true }, { steps, omitFinalBlankLine: "newline" });
    assert.match(await (await chat(simulator)).text(), /data: \[DONE\]\n$/);
    assert.match(await (await chat(simulator)).text(), /data: \[DONE\]$/);
    simulator.enqueue({ steps, bom: true });
    const bytes = new Uint8Array(await (await chat(simulator)).arrayBuffer());
    assert.deepEqual([...bytes.subarray(0, 4)], [0xef, 0xbb, 0xbf, 0x64]);
  });

  test("cut → end closes the body, close and reset break the connection", async () => {
    simulator.enqueue({ steps: [text("Half"), cut("end")] });
    const ended = await eventsOf(await chat(simulator));
    assert.deepEqual(openAIResult(ended), { text: "Half", thinking: "", finish: null });
    assert.ok(!ended.some((one) => one.data === "[DONE]"));

    simulator.enqueue({ steps: [text("Half"), cut("close")] }, { steps: [text("Half"), cut("reset")] });
    const closed = await chatOverSocket(simulator);
    assert.equal(closed.error, undefined);
    assert.ok(Buffer.concat(closed.chunks).includes("Half"));
    const reset = await chatOverSocket(simulator);
    assert.equal(reset.error?.code, "ECONNRESET");
    assert.ok(Buffer.concat(reset.chunks).includes("Half"));
    assert.deepEqual(
      simulator.requests.map((one) => one.ended),
      ["cut", "cut", "reset"],
    );
    assert.ok(simulator.requests.every((one) => !one.aborted));
  });

  test("raw steps → framing and end are the script's", async () => {
    simulator.enqueue({ steps: [raw('data: {"a"'), raw(":1}\n"), text("x")] });
    const body = await (await chat(simulator)).text();
    assert.match(body, /^data: {"a":1}\ndata: /);
    assert.doesNotMatch(body, /finish_reason":"stop"|DONE/);
  });

  test("repeat → floods with backpressure, or keeps a pace", async () => {
    simulator.enqueue({ steps: [repeat("text", 20_000, "abcd "), finish("stop")] });
    const result = openAIResult(await eventsOf(await chat(simulator)));
    assert.equal(result.text.length, 100_000);
    assert.equal(result.finish, "stop");
    assert.equal(simulator.requests[0]?.sentEvents, 20_003);

    simulator.enqueue({ steps: [repeat("arguments", 500, 'a"\n')] });
    const fragments = payloads(await eventsOf(await chat(simulator)));
    const args = fragments.map(
      (one) => dig(one, "choices", 0, "delta", "tool_calls", 0, "function", "arguments") ?? "",
    );
    assert.equal((JSON.parse(args.join("")) as { content: string }).content, 'a"\n'.repeat(500));

    const start = performance.now();
    simulator.enqueue({ steps: [repeat("thinking", 40, "t", 200)] });
    assert.equal((await eventsOf(await messages(simulator))).length, 45);
    const took = performance.now() - start;
    assert.ok(took > 150 && took < 10_000, `40 deltas at 200 per second took ${took} ms`);
  });
});
