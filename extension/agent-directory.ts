/** Pi's agent directory, for programs outside of Pi, and the API key that Pi keeps there. */
import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join, resolve } from "node:path";

/** Returns Pi's agent directory. */
export function agentDirectory(): string {
  const named = process.env["PI_CODING_AGENT_DIR"]?.trim();
  if (!named) return join(homedir(), ".pi", "agent");
  return resolve(named.replace(/^~(?=$|[\\/])/, homedir()));
}

/**
 * Returns the API key in Pi's auth.json, for programs outside of Pi. Keys that Pi would look up (`$NAME`, `!command`) are left to Pi,
 * and logins to the addon.
 */
export function storedKey(agentDir: string): string | undefined {
  try {
    const all = JSON.parse(readFileSync(join(agentDir, "auth.json"), "utf8").replace(/^\uFEFF/, "")) as {
      "kimi-coding"?: { type?: unknown; key?: unknown };
    };
    const entry = all["kimi-coding"];
    return entry?.type === "api_key" && typeof entry.key === "string" && /^[\w-]+$/.test(entry.key)
      ? entry.key
      : undefined;
  } catch {
    return undefined; // The addon reports a file that cannot be read.
  }
}
