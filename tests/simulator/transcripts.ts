// Transcripts of both dialects, A (docs/protocol.md#chat-events) and B (docs/protocol.md#messages-events), as scenarios.
// Their bytes lie verbatim in `transcripts/*.sse`, so that other test suites can read the same files.

import { readFileSync } from "node:fs";
import { invalidCredential, ServiceError } from "./errors.ts";
import { faults, rateLimit } from "./faults.ts";
import { openAIScenarios } from "./scenario-variants.ts";
import type { Scenario } from "./types.ts";

const HEAD = { "cache-control": "no-cache", "x-trace-id": "trace-abc-123" };

declare const COMPILED_TRANSCRIPTS: Record<string, string> | undefined;

/** The bytes of a transcript as they stand in its file. The published simulator has them compiled in (npm/build.mjs). */
export function transcriptText(name: string): string {
  if (typeof COMPILED_TRANSCRIPTS !== "undefined") return COMPILED_TRANSCRIPTS[name] ?? "";
  return readFileSync(new URL(`./transcripts/${name}.sse`, import.meta.url), "utf8");
}

function verbatim(name: string): Scenario {
  return { name, headers: HEAD, steps: [{ raw: transcriptText(name) }] };
}

function changed(name: string, source: string, change: (text: string) => string): Scenario {
  return { name, headers: HEAD, steps: [{ raw: change(transcriptText(source)) }] };
}

function firstFrame(text: string): string {
  return text.slice(0, text.indexOf("\n\n") + 2);
}

const SIGNATURE_FRAME =
  "event: content_block_delta\n" +
  'data: {"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"sig_xyz"}}\n\n';

function withSignature(text: string): string {
  const stop = "event: content_block_stop\n";
  return text.replace(stop, SIGNATURE_FRAME + stop);
}

/** B2 with other usage objects in place of its own. */
function withUsage(start: string, delta: string | undefined): (text: string) => string {
  return (text) =>
    text
      .replace(/"usage":\{"input_tokens":10[^}]*\}/, `"usage":${start}`)
      .replace(',"usage":{"output_tokens":5}', delta === undefined ? "" : `,"usage":${delta}`);
}

const KC_START = '{"input_tokens":100,"cache_read_input_tokens":50,"cache_creation_input_tokens":20}';
const KC_DELTA =
  '{"output_tokens":42,"cache_read_input_tokens":55,"cache_creation_input_tokens":25,"input_tokens":105}';
const BOTH_CONVENTIONS =
  '{"prompt_tokens":11272,"input_tokens":264,"output_tokens":5,"cache_read_input_tokens":11008,' +
  '"cache_creation_input_tokens":0,"cached_tokens":11008}';

export const transcripts = {
  A1: verbatim("A1"),
  A2: verbatim("A2"),
  A3: verbatim("A3"),
  A4: verbatim("A4"),
  A5: verbatim("A5"),
  A6: verbatim("A6"),
  A7: verbatim("A7"),
  A8: verbatim("A8"),
  A9: verbatim("A9"),
  A10: verbatim("A10"),
  /** The opposite of A10: text that only starts like the empty-response text. */
  A10b: changed("A10b", "A10", (text) => text.replace(/"content":"response: [^"]*"/, '"content":"list)"')),
  A11: verbatim("A11"),
  A12a: verbatim("A12a"),
  A12b: verbatim("A12b"),
  A12c: {
    name: "A12c",
    headers: HEAD,
    steps: [{ raw: firstFrame(transcriptText("A1")) }, { cut: "close" }],
  },
  A13a: { name: "A13a", http: invalidCredential().answer({ "content-type": "application/json" }) },
  A13b: {
    name: "A13b",
    http: new ServiceError(429, "rate_limit_reached_error", "too many requests").answer({ "retry-after": "2" }),
  },
  A13c: { ...faults.quota, name: "A13c" },
  A13d: { ...faults["error-500"], name: "A13d" },
  B1: verbatim("B1"),
  B2: verbatim("B2"),
  B3: verbatim("B3"),
  /** B3 with the signature that Kimi does not send. */
  B3b: changed("B3b", "B3", withSignature),
  B4: verbatim("B4"),
  B5: verbatim("B5"),
  B6a: changed("B6a", "B2", withUsage(KC_START, KC_DELTA)),
  B6b: changed("B6b", "B2", withUsage(BOTH_CONVENTIONS, BOTH_CONVENTIONS)),
  B6c: changed("B6c", "B2", withUsage(KC_START, undefined)),
  B7: verbatim("B7"),
  B8: verbatim("B8"),
  B9: verbatim("B9"),
} satisfies Record<string, Scenario>;

/** A scenario by the name a `[[scenario:…]]` marker gives: transcript, variant or fault (`rate-limit:8` too). */
export function namedScenario(name: string): Scenario | undefined {
  const known: Record<string, Scenario> = { ...faults, ...openAIScenarios, ...transcripts };
  if (Object.hasOwn(known, name)) return known[name];
  const limited = /^rate-limit:(\d+)$/.exec(name);
  return limited === null ? undefined : rateLimit(limited[1]);
}
