/**
 * The command line: `npx pi-provider-kimi-code doctor`, `replay`. Commands are for people; what other programs read is `--json`.
 */
import { createInterface } from "node:readline/promises";
import { parseArgs } from "node:util";
import { PiCredentials } from "./credential.ts";
import { agentDirectory, storedKey } from "./agent-directory.ts";
import { examine } from "./doctor/examine.ts";
import { exitCode, publicReport, reportText, writeReport } from "./doctor/format.ts";
import { ExtensionEnvironment } from "./environment.ts";
import { projectTrust, TrustFile } from "./project-trust.ts";
import { startReplay } from "./replay.ts";

const USAGE = `Usage: pi-provider-kimi-code <command>

  doctor [--json] [--live] [--report <file> [--yes]]
      Examines settings, logins, connection and service. --live sends a tiny request to a model.
      --report shows a report for bug reports, asks, and writes it. Ends with 0 (all well), 1 (warnings) or 2 (faults).

  replay <folder> [--port <port>] [--at-once]
      Serves what KIMI_CODE_RECORD=<folder> has recorded, at the original speed or without pauses. The first line that it prints is
      the variable for programs; any key is accepted. Runs until Ctrl-C.
`;

/** Enters the project of the working directory, trusted as the files of Pi and our own say. */
function projectHere(agent: string): ExtensionEnvironment {
  const cwd = process.cwd();
  const parts = { getAgentDir: () => agent, ProjectTrustStore: TrustFile };
  const environment = new ExtensionEnvironment();
  environment.enterProject(cwd, projectTrust({ cwd, isProjectTrusted: () => true }, parts, []) === true);
  return environment;
}

async function doctor(args: string[]): Promise<number> {
  const { values } = parseArgs({
    args,
    options: {
      json: { type: "boolean", default: false },
      live: { type: "boolean", default: false },
      report: { type: "string" },
      yes: { type: "boolean", default: false },
    },
  });
  const agent = agentDirectory();
  const report = await examine({
    credential: new PiCredentials(agent).ofKey(storedKey(agent)),
    extensionEnvironment: projectHere(agent),
    live: values.live,
  });
  if (values.report === undefined) {
    process.stdout.write(`${values.json ? JSON.stringify(report) : reportText(report)}\n`);
  } else {
    const text = publicReport(report);
    process.stdout.write(text);
    if (values.yes || (await confirmed(`Write this to ${values.report}? [y/N] `))) {
      writeReport(values.report, text);
      process.stdout.write(`Written: ${values.report}\n`);
    } else process.stdout.write("Not written.\n");
  }
  return exitCode(report);
}

async function replay(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { port: { type: "string", default: "0" }, "at-once": { type: "boolean", default: false } },
  });
  const [folder, ...others] = positionals;
  if (folder === undefined || others.length > 0) throw new Error("replay takes one folder");
  const port = Number(values.port);
  if (!Number.isInteger(port) || port < 0 || port > 65_535) throw new Error(`not a port: ${values.port}`);
  const service = await startReplay(folder, { port, atOnce: values["at-once"] });
  const answers = service.exchanges === 1 ? "1 recorded answer" : `${service.exchanges} recorded answers`;
  process.stdout.write(`KIMI_CODE_BASE_URL=${service.url}\n${answers}; any key is accepted.\n`);
  await new Promise<void>((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => resolve());
  });
  await service.close();
  return 0;
}

/** Asks on the terminal; without one, the answer is no. */
async function confirmed(question: string): Promise<boolean> {
  if (!process.stdin.isTTY) return false;
  const terminal = createInterface({ input: process.stdin, output: process.stdout });
  try {
    return /^y(es)?$/i.test((await terminal.question(question)).trim());
  } finally {
    terminal.close();
  }
}

async function main([command, ...args]: string[]): Promise<number> {
  if (command === "doctor") return doctor(args);
  if (command === "replay") return replay(args);
  const asked = command === "help" || command === "--help" || command === "-h";
  (asked ? process.stdout : process.stderr).write(USAGE);
  return asked ? 0 : 2;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 2;
}
