/** A home for the process of a test, so that nothing of a developer's is read or written. */
import { mkdtempSync, rmSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";

/** A folder that a test has made, which its children get as their home. */
const MADE_BY_TEST = /[\\/]kimi-[a-z-]+\w{6}(?:[\\/]|$)/;

let home: string | undefined;

/**
 * Gives this process a home of its own, which goes with it, unless a test has given it one. What runs the addon inside a test's
 * process calls it when it is loaded. What npm and Rust keep in the user's home stays in use.
 */
export function useOwnHome(): void {
  const before = homedir();
  if (home !== undefined || MADE_BY_TEST.test(before)) return;
  process.env["npm_config_userconfig"] ??= join(before, ".npmrc");
  process.env["npm_config_cache"] ??= join(before, ".npm");
  process.env["CARGO_HOME"] ??= join(before, ".cargo");
  process.env["RUSTUP_HOME"] ??= join(before, ".rustup");
  const own = mkdtempSync(join(tmpdir(), "kimi-home-"));
  home = own;
  Object.assign(process.env, { HOME: own, USERPROFILE: own, PI_CODING_AGENT_DIR: join(own, ".pi", "agent") });
  delete process.env["KIMI_CODE_HOME"];
  delete process.env["KIMI_SHARE_DIR"];
  process.once("exit", () => rmSync(own, { recursive: true, force: true }));
}
