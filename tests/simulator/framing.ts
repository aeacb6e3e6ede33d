// Server-sent events as bytes, in every form a client must support (docs/protocol.md#event-stream-format).

import type { Framing } from "./types.ts";

/** One event as text: `event:` line if named, `data:` line, blank line. */
export function frameText(data: string, event: string | undefined, framing: Framing): string {
  const eol = framing.lineEnding ?? "\n";
  const space = framing.noSpaceAfterData ? "" : " ";
  const name = event === undefined ? "" : `event:${space}${event}${eol}`;
  return `${name}data:${space}${data}${eol}${eol}`;
}

export function commentText(text: string, framing: Framing): string {
  const eol = framing.lineEnding ?? "\n";
  return `: ${text}${eol}${eol}`;
}

/** Raw bytes keep their form unless the scenario requests another one explicitly. */
export function rawText(raw: string, framing: Framing): string {
  let text = raw;
  if (framing.noSpaceAfterData) text = text.replace(/^(data|event): /gm, "$1:");
  if (framing.omitDone) text = text.replace(/data: ?\[DONE\]\n\n$/, "");
  if (framing.lineEnding !== undefined) text = text.replace(/\r\n|\r|\n/g, framing.lineEnding);
  return text;
}

/** Removes what `omitFinalBlankLine` says from the end of the last chunk. */
export function trimEnd(text: string, framing: Framing): string {
  if (!framing.omitFinalBlankLine) return text;
  const eol = framing.lineEnding ?? "\n";
  let end = text;
  const lines = framing.omitFinalBlankLine === "newline" ? 2 : 1;
  for (let i = 0; i < lines && end.endsWith(eol); i++) end = end.slice(0, -eol.length);
  return end;
}

/** Number of events in a chunk of stream text, for the request log. */
export function countEvents(text: string): number {
  return text.match(/^data:/gm)?.length ?? 0;
}

/** Splits a byte stream into chunks of a fixed or (reproducibly) random size, across event boundaries. */
export class Splitter {
  readonly #size: number | "random";
  #rest: Buffer = Buffer.alloc(0);
  #random: number;

  constructor(size: number | "random", seed: number) {
    this.#size = size;
    this.#random = seed + 1;
  }

  push(bytes: Buffer): Buffer[] {
    let rest = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes]);
    const pieces: Buffer[] = [];
    for (let size = this.#next(); rest.length >= size; size = this.#next()) {
      pieces.push(rest.subarray(0, size));
      rest = rest.subarray(size);
    }
    this.#rest = rest;
    return pieces;
  }

  flush(): Buffer[] {
    const rest = this.#rest;
    this.#rest = Buffer.alloc(0);
    return rest.length === 0 ? [] : [rest];
  }

  #next(): number {
    if (this.#size !== "random") return Math.max(1, this.#size);
    this.#random = (Math.imul(this.#random, 1103515245) + 12345) & 0x7fffffff;
    return 1 + ((this.#random >>> 8) % 48);
  }
}
