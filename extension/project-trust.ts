/**
 * Decides whether the settings file of a project counts.
 *
 * Pi counts a folder as trusted without a question if it has nothing that Pi itself would have to trust, and our file is nothing
 * of that kind. So only a decision of the user counts here (docs/settings.md#trust).
 */
import { mkdirSync, readFileSync, realpathSync, renameSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import type { ExtensionContext } from "@earendil-works/pi-coding-agent";

/** What we use of pi-coding-agent. */
export interface TrustParts {
  getAgentDir(): string;
  hasTrustRequiringProjectResources?(cwd: string): boolean;
  ProjectTrustStore?: new (agentDir: string) => { get(cwd: string): boolean | null };
}

export type ProjectTrust = "trusted" | "untrusted" | "undecided";

/** Returns the user's decision about a project: Pi's own, or the answer to our question. */
export function projectTrust(ctx: ExtensionContext, parts: TrustParts, argv = process.argv): ProjectTrust {
  if (!ctx.isProjectTrusted()) return "untrusted";
  // Pi has asked, or its settings answer for the user.
  if (parts.hasTrustRequiringProjectResources?.(ctx.cwd) === true) return "trusted";
  if (argv.includes("--approve") || argv.includes("-a")) return "trusted";
  const stored = storedByPi(ctx.cwd, parts);
  // Old versions of Pi answer for a folder without resources of its own before they look into their file.
  if (stored === false) return "untrusted";
  if (stored === true || defaultOfPi(parts) === "always") return "trusted";
  const answer = readAnswers()[resolved(ctx.cwd)];
  return answer === undefined ? "undecided" : answer ? "trusted" : "untrusted";
}

/** Asks the user once, keeps the answer, and returns it. */
export async function askForTrust({ ui, cwd }: ExtensionContext): Promise<boolean> {
  const file = join(cwd, ".pi", "pi-provider-kimi-code.json");
  const explanation = `${file}\n\nIt can choose models and tools, which may use more of your plan. Use it only if you trust this folder.`;
  const trusted = await ui.confirm("Use the Kimi settings of this project?", explanation);
  rememberTrust(cwd, trusted);
  return trusted;
}

/** Keeps an answer. If it cannot be written, the question is asked again next time. */
export function rememberTrust(cwd: string, trusted: boolean): void {
  try {
    const file = answersFile();
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
    const fresh = `${file}.${process.pid}`;
    const answers = { ...readAnswers(), [resolved(cwd)]: trusted };
    writeFileSync(fresh, `${JSON.stringify(answers, null, 2)}\n`, { mode: 0o600 });
    renameSync(fresh, file);
  } catch {
    // As documented.
  }
}

/** Returns the decision in Pi's file, or null where there is none. */
function storedByPi(cwd: string, { ProjectTrustStore, getAgentDir }: TrustParts): boolean | null {
  try {
    return ProjectTrustStore === undefined ? null : new ProjectTrustStore(getAgentDir()).get(cwd);
  } catch {
    return null;
  }
}

function defaultOfPi({ getAgentDir }: TrustParts): unknown {
  try {
    const settings = JSON.parse(readFileSync(join(getAgentDir(), "settings.json"), "utf8")) as Record<string, unknown>;
    return settings["defaultProjectTrust"];
  } catch {
    return undefined;
  }
}

function answersFile(): string {
  return join(homedir(), ".pi", "pi-provider-kimi-code", "trusted-projects.json");
}

function readAnswers(): Record<string, boolean> {
  try {
    const answers: unknown = JSON.parse(readFileSync(answersFile(), "utf8"));
    return typeof answers === "object" && answers !== null ? (answers as Record<string, boolean>) : {};
  } catch {
    return {};
  }
}

function resolved(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}
