/** Runs the doctor's command line in a process of its own. */
import { spawn } from "node:child_process";
import { join } from "node:path";
import type { DoctorReport } from "../../extension/doctor/examine.ts";
import type { Machine } from "./account.ts";
import { ROOT } from "./pi.ts";

export interface Diagnosis extends DoctorReport {
  code: number | null;
  stdout: string;
}

export interface DoctorOptions {
  /** Another program than this checkout's. */
  program?: string;
  /** Runs as this user, who must own the machine's files. */
  user?: number;
}

export interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** Runs a command of the package to its end. */
export async function command(
  machine: Machine,
  args: string[],
  env: Record<string, string | undefined>,
  { program = join(ROOT, "extension", "cli.ts"), user }: DoctorOptions = {},
): Promise<Ended> {
  const child = spawn(process.execPath, [program, ...args], {
    cwd: machine.cwd,
    env: machine.env(machine.variables(env)),
    stdio: ["ignore", "pipe", "pipe"],
    ...(user === undefined ? {} : { uid: user, gid: user }),
  });
  let [stdout, stderr] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const timer = setTimeout(() => child.kill("SIGKILL"), 60_000);
  const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
  clearTimeout(timer);
  return { code, stdout, stderr };
}

/** Runs `doctor --json` and returns its report. */
export async function diagnose(
  machine: Machine,
  env: Record<string, string | undefined>,
  options: DoctorOptions = {},
): Promise<Diagnosis> {
  const { code, stdout, stderr } = await command(machine, ["doctor", "--json"], env, options);
  if (!stdout.startsWith("{")) throw new Error(`no report (${String(code)}): ${stdout}${stderr}`);
  return { ...(JSON.parse(stdout) as DoctorReport), code, stdout };
}
