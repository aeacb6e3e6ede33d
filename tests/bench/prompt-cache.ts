/**
 * `npm run measure:cache [-- --live] [--write] [--model k3] [--user-agent "my-agent/1.2"]`
 *
 * Shows what the prompt cache keeps when a conversation grows, and what misses it: one fixed conversation, changed in one place
 * at a time. Runs against the simulator; `--live` uses a key or login of this machine and the real service, where it costs about
 * 80,000 input tokens, most of them cached. docs/caching.md has the simulator's table, which `--write` puts there.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type ChatMessage, type ChatRequest, Kimi } from "../../index.ts";
import { buildAddon } from "../../npm/build.mjs";
import { startSimulator } from "../simulator/index.ts";
import { ADDON } from "../support/packages.ts";
import { Home } from "../support/pi.ts";
import { realPng } from "../support/sample-media.ts";

export interface Step {
  name: string;
  /** Tokens of the whole prompt. */
  prompt: number;
  cached: number;
  uncached: number;
}

interface Asked {
  name: string;
  request: ChatRequest;
}

const TOOL = {
  name: "look_up",
  description: "Looks a word up in the glossary.",
  parameters: { type: "object", properties: { word: { type: "string" } }, required: ["word"] },
};

/** Builds the requests in order. `run` makes them new to the service, independent of earlier runs. */
function conversation(run: string): Asked[] {
  const rules = Array.from({ length: 300 }, (_, n) => `Rule ${n + 1} of ${run}: answer with the single word ok.`);
  const system = rules.join("\n");
  const say = (text: string): ChatMessage => ({ role: "user", content: text });
  const answer: ChatMessage = { role: "assistant", content: "ok" };
  const one = [say("First question.")];
  const two = [...one, answer, say(`Second question. ${"It comes with a longer text. ".repeat(60)}`)];
  const three = [...two, answer, say("Third question.")];
  const base: ChatRequest = { messages: three, system, tools: [TOOL], thinking: "low", sessionId: `${run}-a` };
  const pictured = (seed: string): ChatRequest => {
    const data = realPng(48, 48, run + seed).toString("base64");
    const image = { type: "image_url", image_url: { url: `data:image/png;base64,${data}` } } as const;
    return {
      ...base,
      messages: [...two, answer, { role: "user", content: [image, { type: "text", text: "And this?" }] }],
    };
  };
  const changedTool = { ...TOOL, description: "Looks a word up in the dictionary." };
  return [
    { name: "first question", request: { ...base, messages: one } },
    { name: "the same again", request: { ...base, messages: one } },
    { name: "second question, a long one", request: { ...base, messages: two } },
    { name: "third question", request: base },
    { name: "another session id", request: { ...base, sessionId: `${run}-b` } },
    { name: "another thinking level", request: { ...base, thinking: "high" } },
    { name: "a tool described differently", request: { ...base, tools: [changedTool] } },
    { name: "the tool as before", request: base },
    { name: "another first line of the system prompt", request: { ...base, system: `Now.\n${system}` } },
    { name: "back, with an uploaded image", request: pictured("one") },
    { name: "the same image again", request: pictured("one") },
    { name: "another image in its place", request: pictured("two") },
  ];
}

/** Name of a run against the simulator, which knows nothing from earlier runs. */
export const SIMULATED = "run";

/** Sends all requests, one after the other. */
export async function measure(
  kimi: Kimi,
  model: string,
  seen: (step: Step) => void = () => {},
  run = SIMULATED,
): Promise<Step[]> {
  const steps: Step[] = [];
  for (const { name, request } of conversation(run)) {
    const step = await ask(kimi, name, { ...request, model });
    steps.push(step);
    seen(step);
  }
  return steps;
}

async function ask(kimi: Kimi, name: string, request: ChatRequest): Promise<Step> {
  const { usage } = await kimi.chat(request).final();
  return { name, prompt: usage.input + usage.cacheRead, cached: usage.cacheRead, uncached: usage.input };
}

/** What a tool that joins late costs, at the top and where it joined. The second way is not accepted for every model. */
export async function measureLateTool(
  kimi: Kimi,
  model: string,
  seen: (step: Step | string) => void,
  run = SIMULATED,
): Promise<void> {
  const before = conversation(`${run}-late`).find(({ name }) => name === "third question")?.request as ChatRequest;
  const late = { name: "define", description: "Defines a word.", parameters: TOOL.parameters };
  const after: ChatRequest = {
    ...before,
    messages: [...(before.messages ?? []), { role: "assistant", content: "ok" }, { role: "user", content: "Go on." }],
    model,
  };
  const inline = (payload: unknown): unknown => {
    const body = payload as { messages: object[] };
    const added = { role: "system", tools: [{ type: "function", function: late }] };
    return { ...body, messages: [...body.messages.slice(0, -1), added, ...body.messages.slice(-1)] };
  };
  for (const [name, request] of [
    ["before a tool joins", { ...before, model }],
    ["a tool that joins late, at the top", { ...after, tools: [TOOL, late] }],
    ["a tool that joins late, where it joined", { ...after, onPayload: inline }],
  ] as const) {
    try {
      seen(await ask(kimi, name, request));
    } catch (error) {
      seen(`${name}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
}

const HEAD = `| ${"request".padEnd(40)} |   prompt |   cached | uncached |\n|${"-".repeat(42)}|---------:|---------:|---------:|`;

/** Formats a step as a row of the table. */
function row({ name, prompt, cached, uncached }: Step): string {
  return `| ${name.padEnd(40)} | ${[prompt, cached, uncached].map((n) => String(n).padStart(8)).join(" | ")} |`;
}

const DOCUMENT = join(import.meta.dirname, "..", "..", "docs", "caching.md");
const TABLE = /(<!-- npm run measure:cache -- --write -->\n\n)([^]*?)(\n\n<!-- end -->)/;

/** Returns the steps of the table in docs/caching.md. */
export function documented(): Step[] {
  const table = TABLE.exec(readFileSync(DOCUMENT, "utf8"))?.[2] ?? "";
  return table
    .split("\n")
    .slice(2)
    .map((line) => {
      const [name = "", ...numbers] = line
        .split("|")
        .slice(1, -1)
        .map((cell) => cell.trim());
      const [prompt = 0, cached = 0, uncached = 0] = numbers.map(Number);
      return { name, prompt, cached, uncached };
    });
}

function document(steps: Step[]): void {
  const rows = [
    "| request | prompt | cached | uncached |",
    "|---|---:|---:|---:|",
    ...steps.map(({ name, prompt, cached, uncached }) => `| ${name} | ${prompt} | ${cached} | ${uncached} |`),
  ];
  const text = readFileSync(DOCUMENT, "utf8");
  writeFileSync(
    DOCUMENT,
    text.replace(TABLE, (_all, begin: string, _table, end: string) => begin + rows.join("\n") + end),
  );
}

/** Every image is uploaded, however small, so that the prompt holds its id. */
export const UPLOAD_ALL = { uploads: { thresholdBytes: 1 } };

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      live: { type: "boolean", default: false },
      write: { type: "boolean", default: false },
      model: { type: "string", default: "kimi-for-coding" },
      "user-agent": { type: "string" },
    },
  });
  if (!existsSync(ADDON)) buildAddon(false);
  const agent = values["user-agent"];
  const headers = agent === undefined ? {} : { headers: { "User-Agent": agent } };
  const show = (step: Step | string): void => console.log(typeof step === "string" ? step : row(step));
  const table = (kimi: Kimi, run?: string): Promise<Step[]> => {
    console.log(`\n${HEAD}`);
    return measure(kimi, values.model, show, run);
  };
  if (values.live) {
    const kimi = new Kimi({ settings: UPLOAD_ALL, ...headers });
    if (!process.env["KIMI_API_KEY"]?.trim() && !kimi.hasLogin()) {
      console.error(
        "--live asks the real service and needs a credential: set KIMI_API_KEY, or sign in with Pi or the kimi CLI.",
      );
      process.exitCode = 2;
      return;
    }
    console.log(`The real service, ${values.model}`);
    // New to the service, independent of earlier runs.
    const run = `${Date.now().toString(36)}-${process.pid}`;
    await table(kimi, run);
    return measureLateTool(kimi, values.model, show, run);
  }
  const simulator = await startSimulator({ identityGate: "off" });
  const home = new Home();
  try {
    simulator.setDefault({ steps: [{ text: "ok" }] });
    console.log("The simulator, which follows the facts of docs/caching.md; --live asks the real service.");
    const env = { HOME: home.home, PI_CODING_AGENT_DIR: home.agent };
    const { baseUrl, apiKey } = simulator;
    const steps = await table(new Kimi({ baseUrl, apiKey, env, settings: UPLOAD_ALL, ...headers }));
    if (values.write) document(steps);
  } finally {
    home.remove();
    await simulator.close();
  }
}

if (process.argv[1] === import.meta.filename) await main();
