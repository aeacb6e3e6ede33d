/** Runs one measurement in a process of its own: `child.ts <JSON of ChildSpec>` prints one line of JSON. */
import type { Subject } from "./cases.ts";
import { history, type Script } from "./history.ts";
import { measure, type Span } from "./measure.ts";
import { subject } from "./subjects.ts";

export interface ChildSpec {
  subject: Subject;
  streams?: number;
  /** Size of the conversation so far; "hi" if not given. */
  historyBytes?: number;
  script?: Script;
  payloadHook?: boolean;
}

export interface Measured extends Span {
  events: number;
}

const spec = JSON.parse(process.argv[2] ?? "{}") as ChildSpec;
const { BENCH_URL: baseUrl = "", BENCH_KEY: apiKey = "" } = process.env;
const { streams = 1, historyBytes, script, payloadHook = false } = spec;
/**
 * A peer gets its own history: it rewrites reasoning recorded by another API, which Kimi rejects
 * (docs/protocol.md#reasoning-replay).
 */
const [, dialect] = /^pi-(openai|anthropic)/.exec(spec.subject) ?? [];
const api = dialect && { openai: "openai-completions", anthropic: "anthropic-messages" }[dialect];
const context = historyBytes === undefined ? {} : { context: history(historyBytes, api ?? "kimi-code-native", script) };
const run = await subject(spec.subject, { baseUrl, apiKey, payloadHook, ...context });

// Warm up with one short answer, so that lazy loading and the first connection are not measured.
await run();
let events = 0;
const span = await measure(async () => {
  const seen = await Promise.all(Array.from({ length: streams }, run));
  events = seen.reduce((sum, one) => sum + one, 0);
});
console.log(JSON.stringify({ ...span, events } satisfies Measured));
