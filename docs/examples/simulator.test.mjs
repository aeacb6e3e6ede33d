// A test of your own program against the simulator: no network, no key, no quota. Run it with `node --test`.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Kimi } from "pi-provider-kimi-code/client";
import { call, faults, startSimulator, text } from "pi-provider-kimi-code/simulator";

let service;
let kimi;
before(async () => {
  service = await startSimulator();
  kimi = new Kimi({ baseUrl: service.url, apiKey: service.apiKey });
});
after(() => service.close());

test("answer → as scripted", async () => {
  service.script({ steps: [text("It is 21 °C.")] });
  assert.equal(await kimi.chat("What is the weather?").text(), "It is 21 °C.");
  assert.equal(service.requests().at(-1).json.messages.at(-1).content, "What is the weather?");
});

test("tool loop → the tool's result is in the second request", async () => {
  service.script({ steps: [call("weather", { city: "Beijing" })] }, { steps: [text("Sunny.")] });
  const tool = { name: "weather", parameters: { type: "object" }, execute: async () => "sunny" };
  assert.equal((await kimi.run({ prompt: "Weather?", tools: [tool] })).text, "Sunny.");
});

test("used-up quota → not retried, with its code", async () => {
  service.script(faults.quota);
  await assert.rejects(kimi.chat("hi").text(), { code: "quota_exhausted" });
});
