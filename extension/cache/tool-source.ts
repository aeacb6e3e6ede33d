/** Adds to a sentence about a tool which extension it comes from. */
import type { ExtensionAPI } from "@earendil-works/pi-coding-agent";

/** Returns `text`, with the source of the tool that it names where Pi knows one. Never throws. */
export function toolSource(pi: ExtensionAPI, text: string): string {
  const name = /\bthe tool (\S+)/.exec(text)?.[1];
  if (name === undefined || typeof pi.getAllTools !== "function") return text;
  try {
    const tool = pi.getAllTools().find((one) => one.name === name);
    const source = (tool as { sourceInfo?: { source?: unknown } } | undefined)?.sourceInfo?.source;
    if (typeof source !== "string" || source === "" || source === "builtin") return text;
    return text.replace(`the tool ${name}`, () => `the tool ${name} (from ${source})`);
  } catch {
    // The session has ended.
    return text;
  }
}
