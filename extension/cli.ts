/**
 * The command line: `npx pi-provider-kimi-code doctor`. Commands are for people; what other programs read is `--json`.
 */
import { createInterface } from "node:readline/promises";
import { parseArgs } from "node:util";
import { PiCredentials } from "./credential.ts";
import { agentDirectory, examine, storedKey } from "./doctor/examine.ts";
import { exitCode, publicReport, reportText, writeReport } from "./doctor/format.ts";

const USAGE = `Usage: pi-provider-kimi-code <command>

  doctor [--json] [--live] [--report <file> [--yes]]
      Examines settings, logins, connection and service. --live sends a tiny request to a model.
      --report shows a report for bug reports, asks, and writes it. Ends with 0 (all well), 1 (warnings) or 2 (faults).
`;

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
