/** The packages as published, packed from this checkout. */
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { platformName } from "../../extension/native/platform.ts";
import { packPlatform, readRoot } from "../../npm/pack.mjs";
import { packageName } from "../../npm/manifests.mjs";
import { ROOT } from "./pi.ts";

export const PLATFORM = platformName();
/** Our package.json. */
export const manifest = readRoot;

/** Name of this platform's package. */
export const PLATFORM_PACKAGE = packageName(PLATFORM, manifest());

/** Programs such as npm are scripts on Windows, which only a shell can start. */
const SHELL = process.platform === "win32";

export const ADDON = join(ROOT, "npm", PLATFORM, "kimi-code.node");

/** Tarball of this platform's package; packed again only if the addon changed, because compressing it takes seconds. */
export function platformTarball(): string {
  const cache = join(ROOT, ".cache", "packages");
  mkdirSync(cache, { recursive: true });
  const file = PLATFORM_PACKAGE.replace("@", "").replace("/", "-");
  const tarball = join(cache, `${file}-${manifest().version}.tgz`);
  const current = existsSync(tarball) && statSync(tarball).mtimeMs > statSync(ADDON).mtimeMs;
  return current ? tarball : packPlatform(cache, PLATFORM);
}

/** Runs a program to its end and returns its output; a failure throws with everything it printed. */
export function run(command: string, args: string[], cwd: string, env?: NodeJS.ProcessEnv): string {
  const program = command === "node" ? process.execPath : command;
  const { status, stdout, stderr, error } = spawnSync(program, args, {
    cwd,
    encoding: "utf8",
    timeout: 120_000,
    shell: SHELL && command !== "node",
    ...(env ? { env } : {}),
  });
  if (error) throw error;
  if (status !== 0) throw new Error(`${command} ${args.join(" ")} ended with ${status}\n${stdout}\n${stderr}`);
  return stdout;
}

/** The same asynchronously, for programs that talk to a server of this process. */
export async function runAside(command: string, args: string[], cwd: string, env: NodeJS.ProcessEnv): Promise<string> {
  const program = command === "node" ? process.execPath : command;
  const shell = SHELL && command !== "node";
  const child = spawn(program, args, { cwd, env, shell, stdio: ["ignore", "pipe", "pipe"], timeout: 300_000 });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const code = await new Promise((resolve) => child.on("close", resolve));
  if (code !== 0) throw new Error(`${command} ${args.join(" ")} ended with ${String(code)}\n${stdout}\n${stderr}`);
  return stdout;
}
