/**
 * Runs `/kimi-doctor [--json] [--live] [--report]` in Pi. Loaded on first use.
 */
import type { ExtensionCommandContext } from "@earendil-works/pi-coding-agent";
import { failure, say } from "../command-output.ts";
import type { PiCredentials } from "../credential.ts";
import type { ExtensionEnvironment } from "../environment.ts";
import type { Credential } from "../queries.ts";
import { examine } from "./examine.ts";
import { publicReport, reportFile, reportText, writeReport } from "./format.ts";

/** Limit for Pi's own credential in milliseconds. Pi may be waiting for a lock, which the doctor then reports. */
const CREDENTIAL_TIMEOUT_MS = 500;

/** What the command works with. */
export interface DoctorParts {
  credentials: PiCredentials;
  extensionEnvironment: ExtensionEnvironment;
  piVersion: string | undefined;
}

/** Runs the command. */
export async function kimiDoctor(args: string, ctx: ExtensionCommandContext, parts: DoctorParts): Promise<void> {
  const flags = new Set(args.trim().split(/\s+/).filter(Boolean));
  const unknown = [...flags].find((flag) => !["--json", "--live", "--report"].includes(flag));
  if (unknown !== undefined) return say(ctx, `${unknown} is unknown. Use: /kimi-doctor [--json] [--live] [--report]`);
  const report = await examine({
    piVersion: parts.piVersion,
    credential: await credential(ctx, parts.credentials),
    extensionEnvironment: parts.extensionEnvironment,
    live: flags.has("--live"),
  });
  if (!flags.has("--report")) return say(ctx, flags.has("--json") ? JSON.stringify(report) : reportText(report));
  const [text, file] = [publicReport(report), reportFile()];
  if (!ctx.hasUI) return say(ctx, `${text}\nNot written, because there is no screen on which to ask.`);
  if (!(await ctx.ui.confirm(`Write this to ${file}?`, text))) return;
  try {
    writeReport(file, text);
    say(ctx, `Written: ${file}`);
  } catch (error) {
    say(ctx, failure(error).error);
  }
}

/** Returns Pi's credential. Without one, the addon looks for a credential itself, and says why there is none. */
async function credential(ctx: ExtensionCommandContext, credentials: PiCredentials): Promise<Credential> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<Credential>((resolve) => {
    timer = setTimeout(() => resolve(credentials.ofKey(undefined)), CREDENTIAL_TIMEOUT_MS);
  });
  const found = credentials.current(ctx).catch(() => credentials.ofKey(undefined));
  return Promise.race([found, late]).finally(() => clearTimeout(timer));
}
