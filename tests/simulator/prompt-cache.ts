// The prefix cache of the service as measured (docs/protocol.md#prompt-cache): an identical prompt is a full hit, an extended one
// hits in 256-token blocks, and any change of system prompt, tools or model is a full miss. Cache keys, markers, headers and the
// dialect do not matter.

import { eachToken } from "./tokens.ts";
import type { Prompt } from "./prompt.ts";

const CHUNK = 256;

export class PromptCache {
  /** Hash of a prefix that ends at a block boundary (or of a whole prompt) → expiry time. */
  readonly #seen = new Map<string, number>();
  readonly #ttl: () => number;

  constructor(ttlMs: () => number) {
    this.#ttl = ttlMs;
  }

  /** Counts the prompt and its cached part, without storing it. */
  read(prompt: Prompt, now: number = Date.now()): { prompt: number; cached: number; keys: string[] } {
    const { total, keys } = measure(prompt);
    const live = (key: string | undefined): boolean => key !== undefined && (this.#seen.get(key) ?? 0) > now;
    if (live(keys.at(-1))) return { prompt: total, cached: total, keys };
    let chunks = 0;
    while (chunks < keys.length - 1 && live(keys[chunks])) chunks++;
    return { prompt: total, cached: chunks * CHUNK, keys };
  }

  remember(keys: string[], now: number = Date.now()): void {
    const until = now + this.#ttl();
    for (const key of keys) this.#seen.set(key, until);
  }

  clear(): void {
    this.#seen.clear();
  }
}

/** The token count, and one key per full block followed by the key of the whole prompt. */
function measure(prompt: Prompt): { total: number; keys: string[] } {
  let high = 0x811c9dc5;
  let low = 0x01000193;
  const mix = (text: string): void => {
    for (let i = 0; i < text.length; i++) {
      const code = text.charCodeAt(i);
      high = Math.imul(high ^ code, 0x01000193);
      low = Math.imul(low + code, 0x85ebca6b) ^ (low >>> 13);
    }
    high = Math.imul(high ^ 0xff, 0x01000193);
  };
  const key = (kind: string): string => `${kind}${(high >>> 0).toString(36)}.${(low >>> 0).toString(36)}`;

  const keys: string[] = [];
  let total = 0;
  const count = (): void => {
    total++;
    if (total % CHUNK === 0) keys.push(key("c"));
  };
  const feed = (text: string): void => {
    eachToken(text, (token) => {
      mix(token);
      count();
    });
  };

  const head = [prompt.system, ...prompt.tools.map((tool) => tool.definition)];
  mix(prompt.model);
  for (const text of head) mix(text);
  for (const text of head) feed(text);
  for (const turn of prompt.turns) {
    feed(`<${turn.role}>`);
    for (const piece of turn.pieces) {
      feed(piece.text);
      for (let i = 0; i < (piece.media?.tokens ?? 0); i++) count();
    }
  }
  keys.push(key("p"));
  return { total, keys };
}
