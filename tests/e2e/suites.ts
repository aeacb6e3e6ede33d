/** The end-to-end suites. Each works against the simulator and against the real service, and throws if something is wrong. */
import assert from "node:assert/strict";
import type { Kimi } from "../../index.ts";
import { measure, type Step } from "../bench/prompt-cache.ts";
import { type Home, type Message, messages, runPi, textOf } from "../support/pi.ts";
import { realPng } from "../support/sample-media.ts";

export type Dialect = "openai" | "anthropic";

export interface Target {
  dialect: Dialect;
  /** The service, in the environment that a Pi gets. */
  env: Record<string, string | undefined>;
  home: Home;
  /** A client for the same service. Every image is uploaded, however small. */
  kimi: Kimi;
  model: string;
}

/** Limit for a prompt in Pi, in milliseconds; a real model may think for a while. */
const PROMPT_TIMEOUT_MS = 180_000;

export interface Suite {
  run: (target: Target) => Promise<string>;
  /** Kimi's tools accept logins only. */
  needsLogin?: boolean;
  /** The dialect makes no difference. */
  once?: boolean;
}

async function prompt({ home, env, dialect, model }: Target, text: string): Promise<Message> {
  const args = ["--mode", "json", "--no-session", "--model", `kimi-coding/${model}`, text];
  const { events, stderr } = await runPi(args, {
    home,
    env: { ...env, KIMI_CODE_PROTOCOL: dialect },
    timeoutMs: PROMPT_TIMEOUT_MS,
  });
  const last = messages(events).at(-1);
  assert.ok(last !== undefined, stderr);
  assert.equal(last.stopReason, "stop", last.errorMessage);
  return last;
}

async function uploads({ kimi, model }: Target): Promise<string> {
  const data = realPng(64, 64, `${Date.now()}`);
  const file = await kimi.files.upload(data);
  const again = await kimi.files.upload(data);
  assert.deepEqual([again.url, again.known], [file.url, true], "the same content is uploaded once");
  const image = { type: "image_url", image_url: { url: file.url } } as const;
  const content = [image, { type: "text", text: "Is this a photo of a cat? Answer with one word." } as const];
  const { usage } = await kimi.chat({ messages: [{ role: "user", content }], model }).final();
  return `${file.url}, ${usage.input + usage.cacheRead} tokens in`;
}

async function cache({ kimi, model }: Target): Promise<string> {
  const steps = await measure(kimi, model);
  const step = (name: string): Step => steps.find((one) => one.name === name) ?? assert.fail(name);
  const repeated = step("the same again");
  assert.ok(
    repeated.cached > repeated.prompt / 2,
    `repeated prompt: only ${repeated.cached} of ${repeated.prompt} cached`,
  );
  const longer = step("third question");
  assert.ok(longer.cached > longer.prompt / 2, `longer prompt: only ${longer.cached} of ${longer.prompt} cached`);
  return steps.map(({ name, prompt: all, cached }) => `${name}: ${cached}/${all}`).join("; ");
}

export const SUITES: Record<string, Suite> = {
  chat: { run: async (target) => textOf(await prompt(target, "Answer with the single word: ready")) },
  tools: {
    run: async (target) => {
      // "run:" is how the simulator's agent is told what to call.
      const answer = textOf(
        await prompt(target, "Use the bash tool and tell me the number it prints. run: echo $((6*7))"),
      );
      assert.match(answer, /42/);
      return answer;
    },
  },
  uploads: { run: uploads },
  cache: { run: cache },
  search: {
    needsLogin: true,
    once: true,
    run: async ({ kimi }) => `${(await kimi.search("Kimi Code")).results.length} results`,
  },
  fetch: {
    needsLogin: true,
    once: true,
    run: async ({ kimi }) => {
      const { text } = await kimi.fetch("https://example.com/");
      assert.notEqual(text.trim(), "");
      return `${text.length} characters`;
    },
  },
  datasource: {
    needsLogin: true,
    once: true,
    run: async ({ kimi }) => `documentation: ${(await kimi.datasource({ source: "arxiv" })).text.length} characters`,
  },
};
