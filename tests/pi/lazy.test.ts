/** Lazy imports: concurrent ones under jiti, as in Pi. */
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";
import { test } from "node:test";
import { createAssistantMessageEventStream } from "@earendil-works/pi-ai";
import { ExtensionEnvironment, host } from "../../extension/environment.ts";
import type { TurnRunner } from "../../extension/turn/runner.ts";
import { startSimulator } from "../simulator/index.ts";
import { PI_CLI, ROOT } from "../support/pi.ts";
import { addon, model, QUESTION } from "../support/turn.ts";

interface Jiti {
  createJiti(from: string, options: object): { import(path: string): Promise<unknown> };
}

test("lazy imports: two turns start before their code is loaded → both are answered", async () => {
  const simulator = await startSimulator();
  simulator.setDefault({ steps: [{ text: "fine" }] });
  try {
    const { createJiti } = createRequire(PI_CLI)("jiti") as Jiti;
    const jiti = createJiti(import.meta.filename, { moduleCache: false, tryNative: false });
    const loaded = (await jiti.import(join(ROOT, "extension", "turn", "runner.ts"))) as {
      TurnRunner: typeof TurnRunner;
    };
    const turns = new loaded.TurnRunner(addon(), host("0.87.1"), new ExtensionEnvironment());
    const streams = [createAssistantMessageEventStream(), createAssistantMessageEventStream()];
    const entry = model(addon(), simulator.baseUrl);
    for (const stream of streams) turns.run(stream, entry, QUESTION as never, { apiKey: simulator.apiKey });
    for (const stream of streams) assert.equal((await stream.result()).errorMessage, undefined);
  } finally {
    await simulator.close();
  }
});
