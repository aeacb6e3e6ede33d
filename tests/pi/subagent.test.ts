/** Pi's own example of sub-agents, whose children are Pi processes of their own. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { call, type Simulator, text } from "../simulator/index.ts";
import { bodyOf, type Home, PI_CLI, ROOT, runPi } from "../support/pi.ts";
import { withPi } from "../support/with-pi.ts";

let simulator: Simulator;
let home: Home;
withPi((...given) => ([simulator, home] = given));

/** The example in the package of the Pi that runs the test. */
const EXAMPLE = join(PI_CLI, "..", "..", "..", "examples", "extensions", "subagent", "index.ts");

interface Body {
  model: string;
  messages: { role: string; content: unknown }[];
}

test("sub-agent example: a task → a child with our model answers, and the parent gets its answer", async () => {
  const env = { KIMI_CODE_BASE_URL: simulator.baseUrl, KIMI_API_KEY: simulator.apiKey };
  // A child loads only what is installed.
  execFileSync(process.execPath, [PI_CLI, "install", ROOT], { cwd: home.cwd, env: home.env(env), stdio: "pipe" });
  mkdirSync(join(home.agent, "agents"), { recursive: true });
  writeFileSync(
    join(home.agent, "agents", "counter.md"),
    "---\nname: counter\ndescription: Counts sheep\n---\n\nYou count sheep.\n",
  );
  simulator.enqueue(
    { steps: [call("subagent", { agent: "counter", task: "count the sheep" })] },
    { steps: [text("There are 42 sheep.")] },
    { steps: [text("The child says 42.")] },
  );
  const result = await runPi(["-p", "--no-session", "--model", "kimi-coding/k3", "-e", EXAMPLE, "how many?"], {
    home,
    env,
    extensions: "installed",
  });
  assert.equal(result.stdout.trim(), "The child says 42.", result.stderr);
  const chats = simulator.requests.filter(({ endpoint }) => endpoint === "chat");
  assert.equal(chats.length, 3);
  const [, child, parent] = chats.map((record) => bodyOf<Body>(record));
  assert.equal(child?.model, "k3", "the child inherits the model");
  assert.match(JSON.stringify(child), /You count sheep[^]*count the sheep/);
  assert.match(JSON.stringify(parent?.messages.at(-1)), /There are 42 sheep/);
  for (const { headers } of chats) assert.match(headers["user-agent"] ?? "", /pi-provider-kimi-code\//);
});
