/** The programs of docs/examples, run with the packed package in node_modules. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, beforeEach, describe, test } from "node:test";
import { packRoot } from "../../npm/pack.mjs";
import { type Simulator, startSimulator } from "../simulator/index.ts";
import { ADDON, PLATFORM_PACKAGE, run, runAside } from "../support/packages.ts";
import { Home, ROOT } from "../support/pi.ts";
import { fakePng } from "../support/sample-media.ts";
import { fetchedTool } from "../support/tools.ts";
import { answerRequests } from "../support/simulator.ts";

let simulator: Simulator;
let home: Home;
let work: string;

before(async () => {
  simulator = await startSimulator({ identityGate: "off" });
  home = new Home();
  work = join(home.path, "a program");
  const root = join(work, "node_modules", "pi-provider-kimi-code");
  mkdirSync(root, { recursive: true });
  run("tar", ["-xzf", packRoot(home.tmp), "-C", root, "--strip-components=1"], work);
  const binary = join(work, "node_modules", PLATFORM_PACKAGE);
  mkdirSync(binary, { recursive: true });
  cpSync(ADDON, join(binary, "kimi-code.node"));
  cpSync(join(ROOT, "docs", "examples"), work, { recursive: true });
  writeFileSync(join(work, "package.json"), '{"private":true}');
});
after(async () => {
  home.remove();
  await simulator.close();
});
beforeEach(() => simulator.reset());

/** Runs an example until it exits by itself. */
async function output(file: string, runtime = "node"): Promise<string> {
  const env = home.env({ KIMI_CODE_BASE_URL: simulator.baseUrl, KIMI_API_KEY: simulator.apiKey });
  return (await runAside(runtime, [file], work, env)).trim();
}

test("example: ask → prints the answer", async () => {
  simulator.enqueue({ steps: [{ text: "Hello from Kimi, dear reader." }] });
  assert.equal(await output("ask.mjs"), "Hello from Kimi, dear reader.");
});

test("example: stream → prints reasoning, text and usage", async () => {
  simulator.enqueue({
    steps: [
      { thinking: "Rayleigh.", size: 3 },
      { text: "Air scatters blue most.", size: 4 },
    ],
  });
  assert.match(
    await output("stream.mjs"),
    /^Rayleigh\.\n---\nAir scatters blue most\.\n\d+ tokens in, \d+ cached, \d+ out$/,
  );
});

test("example: tools → runs the call and prints the answer", async () => {
  simulator.enqueue(
    { steps: [{ thinking: "I ask." }, { toolCall: { name: "bash", arguments: { command: "weather" } } }] },
    { steps: [{ text: "It is 21 °C and sunny." }] },
  );
  assert.equal(await output("tools.mjs"), '(bash {"command":"weather"})\nIt is 21 °C and sunny.');
});

test("example: errors → reports an abort and a refused key", async () => {
  simulator.enqueue({ hang: "headers" } as never);
  assert.equal(await output("errors.mjs"), "stopped, because TimeoutError\nunauthorized: sign in again");
});

test("example: files → uploads once, then refers; a PDF is refused", async () => {
  writeFileSync(join(work, "picture.png"), fakePng(300_000, "example"));
  simulator.enqueue({ steps: [{ text: "A picture of noise." }] }, { steps: [{ text: "The same one." }] });
  assert.equal(await output("files.mjs"), "100 %\nuploaded: image/png, 300000 bytes\nA picture of noise.");
  assert.equal(await output("files.mjs"), "known: image/png, 300000 bytes\nThe same one.");
  writeFileSync(join(work, "picture.png"), "%PDF-1.7");
  assert.equal(
    await output("files.mjs"),
    "bad_media: picture.png cannot be uploaded: it is a PDF, which Kimi does not take",
  );
});

test("example: CommonJS → require() works", async () => {
  simulator.enqueue({ steps: [{ text: "Hello." }] });
  assert.equal(await output("common-js.cjs"), "Hello.");
});

test("command line of the package: doctor and replay → run", async () => {
  const program = join("node_modules", "pi-provider-kimi-code", "dist", "cli.js");
  const bin = JSON.parse(readFileSync(join(work, "node_modules", "pi-provider-kimi-code", "package.json"), "utf8")) as {
    bin: Record<string, string>;
  };
  assert.deepEqual(bin.bin, { "pi-provider-kimi-code": "dist/cli.js" });
  const env = { KIMI_CODE_BASE_URL: simulator.baseUrl, KIMI_API_KEY: simulator.apiKey };
  const report = await runAside("node", [program, "doctor", "--json"], work, home.env(env));
  assert.equal((JSON.parse(report) as { ok: boolean }).ok, true, report);
  simulator.enqueue({ steps: [{ text: "Recorded." }] });
  const folder = join(home.path, "recording");
  await runAside("node", ["ask.mjs"], work, home.env({ ...env, KIMI_CODE_RECORD: folder }));
  const child = spawn(process.execPath, [program, "replay", folder, "--at-once"], {
    cwd: work,
    stdio: ["ignore", "pipe", "inherit"],
  });
  try {
    const line = await new Promise<string>((resolve) => child.stdout.setEncoding("utf8").once("data", resolve));
    const url = /^KIMI_CODE_BASE_URL=(\S+)/.exec(line)?.[1];
    const again = await runAside("node", ["ask.mjs"], work, home.env({ KIMI_CODE_BASE_URL: url, KIMI_API_KEY: "any" }));
    assert.equal(again.trim(), "Recorded.");
  } finally {
    child.kill();
  }
});

test("example: object → the value, or what is wrong with it", async () => {
  simulator.enqueue({ steps: [{ text: '{"name":"Goethe","born":1749}' }] }, { steps: [{ text: '{"name":"Goethe"}' }] });
  assert.equal(await output("object.mjs"), "Goethe, 1749");
  assert.match(await output("object.mjs"), /has no born/);
  assert.equal(await output("object.mjs"), "You said: Who wrote Faust?, 1", "without a script");
});

test("example: run → the tool's result reaches the model", async () => {
  simulator.enqueue(
    { steps: [{ toolCall: { name: "weather", arguments: { city: "Beijing" } } }] },
    { steps: [{ text: "Sunny." }] },
  );
  assert.equal(await output("run.mjs"), "Sunny. (2 steps)");
  assert.match(JSON.stringify(answerRequests(simulator).at(-1)?.json), /Beijing: 21 °C, sunny/);
});

test("example: TypeScript → compiles in strict mode and runs", async () => {
  cpSync(join(work, "typescript.ts"), join(work, "typescript.mts"));
  const compilerOptions = {
    ...{ strict: true, module: "nodenext", target: "es2023", noEmit: true, skipLibCheck: false },
    ...{ types: ["node"], typeRoots: [join(ROOT, "node_modules", "@types")] },
  };
  writeFileSync(join(work, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["typescript.mts"] }));
  run("node", [join(ROOT, "node_modules", "typescript", "bin", "tsc"), "-p", work], work);
  simulator.enqueue({ steps: [{ text: "Air scatters blue." }] });
  assert.match(await output("typescript.mts"), /^Air scatters blue\.\nstop, \d+ tokens$/);
});

test("example: tests of a program against the published simulator → pass", async () => {
  const env = home.env({});
  const report = await runAside("node", ["--test", "simulator.test.mjs"], work, env);
  assert.match(report, /^[#ℹ] pass 3$/m);
});

test("README: its first program → runs against `npm run simulator`", async () => {
  const readme = readFileSync(join(ROOT, "README.md"), "utf8");
  const program = /## From your own program[\s\S]*?```js\n([\s\S]*?)```/.exec(readme)?.[1] ?? "";
  assert.match(program, /new Kimi\(\)/);
  writeFileSync(join(work, "readme.mjs"), program);
  const child = spawn(process.execPath, [join(ROOT, "tests", "simulator", "main.ts"), "--port", "0"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  try {
    const line = await new Promise<string>((resolve) => child.stdout.setEncoding("utf8").once("data", resolve));
    const variables = Object.fromEntries(
      line
        .trim()
        .split(" ")
        .map((pair) => pair.split("=")) as [string, string][],
    );
    assert.match(
      await runAside("node", ["readme.mjs"], work, home.env(variables)),
      /^You said: Why is the sky blue\?$/,
    );
  } finally {
    child.kill();
  }
});

describe("with the AI SDK", () => {
  before(() => {
    for (const name of ["ai", "@ai-sdk"]) {
      symlinkSync(join(ROOT, "node_modules", name), join(work, "node_modules", name), "junction");
    }
  });

  test("example: AI SDK → a stream and an object", async () => {
    simulator.enqueue({ steps: [{ text: "Air scatters blue." }] }, { steps: [{ text: '{"city":"Paris"}' }] });
    assert.equal(await output("ai-sdk.mjs"), "Air scatters blue.\nParis");
    assert.match(await output("ai-sdk.mjs"), /\nYou said: Which city is the capital of France\?$/, "without a script");
  });
});

test("example: worker threads → every thread gets its answer", async () => {
  for (let n = 0; n < 3; n += 1) simulator.enqueue({ steps: [{ text: "From a thread." }] });
  assert.equal(await output("worker.mjs"), "From a thread.\nFrom a thread.\nFrom a thread.");
});

test("worker threads: terminated during an answer → the program goes on", async () => {
  simulator.enqueue({ steps: [{ repeat: { kind: "text", count: 100_000, text: "word ", perSecond: 200 } }] } as never, {
    steps: [{ text: "Still here." }],
  });
  writeFileSync(
    join(work, "terminated.mjs"),
    `import { isMainThread, parentPort, Worker } from "node:worker_threads";
     import { Kimi } from "pi-provider-kimi-code";
     if (isMainThread) {
       const worker = new Worker(new URL(import.meta.url));
       await new Promise((resolve) => worker.once("message", resolve));
       await worker.terminate();
       console.log(await new Kimi().chat("Are you there?").text());
     } else {
       for await (const event of new Kimi().chat("hi")) if (event.type === "text_delta") parentPort.postMessage("streaming");
     }`,
  );
  assert.equal(await output("terminated.mjs"), "Still here.");
});

test("package: two copies in one process → each answers by itself", async () => {
  simulator.enqueue({ steps: [{ text: "one" }] }, { steps: [{ text: "two" }] });
  cpSync(join(work, "node_modules"), join(work, "nested", "node_modules"), { recursive: true });
  const again = `export { Kimi } from "pi-provider-kimi-code";`;
  writeFileSync(join(work, "nested", "again.mjs"), again);
  writeFileSync(
    join(work, "twice.mjs"),
    `import { Kimi } from "pi-provider-kimi-code";
     import { Kimi as Other } from "./nested/again.mjs";
     console.log(Kimi !== Other, await new Kimi().chat("a").text(), await new Other().chat("b").text());`,
  );
  assert.equal(await output("twice.mjs"), "true one two");
});

test("Node 20: import and require → both run", async () => {
  const platform = process.platform === "win32" ? "win" : process.platform;
  const name = `node-${platform}-${process.arch}`;
  const old = fetchedTool(`${name}@20`, `${name}/bin/node${process.platform === "win32" ? ".exe" : ""}`);
  simulator.enqueue({ steps: [{ text: "Hello, old friend." }] }, { steps: [{ text: "Hello again." }] });
  assert.match(run(old, ["--version"], work), /^v20\./);
  assert.equal(await output("ask.mjs", old), "Hello, old friend.");
  assert.equal(await output("common-js.cjs", old), "Hello again.");
});

test("import: no client yet → loads no binary and takes less than a second", async () => {
  writeFileSync(
    join(work, "import.mjs"),
    `const before = performance.now();
     await import("pi-provider-kimi-code");
     const took = performance.now() - before;
     const loaded = process.report.getReport().sharedObjects.some((file) => file.endsWith("kimi-code.node"));
     console.log(loaded, took < 1000);`,
  );
  assert.equal(await output("import.mjs"), "false true");
});

describe("with Pi", () => {
  before(() => {
    symlinkSync(
      join(ROOT, "node_modules", "@earendil-works"),
      join(work, "node_modules", "@earendil-works"),
      "junction",
    );
  });
  beforeEach(() => (simulator.settings.identityGate = "agent"));

  test("Pi: main() with the factory → answers", async () => {
    simulator.enqueue({ steps: [{ text: "Hello from your own Pi." }] });
    assert.equal(await output("custom-pi.mjs"), "Hello from your own Pi.");
  });

  test("Pi: agent session with key and host of the program → answers", async () => {
    simulator.enqueue({ steps: [{ text: "Hello from your agent." }] });
    const env = home.env({ MY_KEY: simulator.apiKey, MY_GATEWAY: simulator.baseUrl });
    assert.equal((await runAside("node", ["agent-session.mjs"], work, env)).trim(), "Hello from your agent.");
  });
});
