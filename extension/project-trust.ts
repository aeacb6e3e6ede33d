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
import { projectFile } from "./project-file.ts";

/** What we use of pi-coding-agent. */
export interface TrustParts {
  getAgentDir(): string;
  hasTrustRequiringProjectResources?(cwd: string): boolean;
  ProjectTrustStore?: new (agentDir: string) => { get(cwd: string): boolean | null };
}

/** A project, and what this session of Pi says about it. */
export type Project = Pick<ExtensionContext, "cwd" | "isProjectTrusted">;

/** Returns the user's decision about a project: Pi's own, or the answer to our question. Undefined if there is none. */
export function projectTrust(project: Project, parts: TrustParts, argv = process.argv): boolean | undefined {
  return decisionOfPi(project, parts, argv) ?? readAnswers()[resolved(project.cwd)];
}

/** Returns what the user has decided in Pi. Undefined if that says nothing about our file. */
export function decisionOfPi(project: Project, parts: TrustParts, argv = process.argv): boolean | undefined {
  if (!project.isProjectTrusted()) return false;
  // Pi has asked, or its settings answer for the user.
  if (parts.hasTrustRequiringProjectResources?.(project.cwd) === true) return true;
  if (argv.includes("--approve") || argv.includes("-a")) return true;
  const stored = storedByPi(project.cwd, parts);
  // Old versions of Pi answer for a folder without resources of its own before they look into their file.
  if (stored !== null) return stored;
  return defaultOfPi(parts) === "always" ? true : undefined;
}

/** A question that is open. */
interface OpenQuestion {
  answer: Promise<boolean | undefined>;
  leave: AbortController;
}

/** The open questions by folder. A session that begins while one is open takes part in it: in RPC mode no client could tell them apart. */
const openQuestions = new Map<string, OpenQuestion>();

/** Asks the user and keeps the answer. Returns undefined, and keeps nothing, if the user leaves the question. */
export function askForTrust({ ui, cwd }: Pick<ExtensionContext, "ui" | "cwd">): Promise<boolean | undefined> {
  const place = resolved(cwd);
  const open = openQuestions.get(place);
  if (open !== undefined) return open.answer;
  const leave = new AbortController();
  const file = projectFile(cwd);
  const explanation = `${file}\n\nIt can choose models and tools, which may use more of your plan. Use it only if you trust this folder.`;
  const title = `Use the Kimi settings of this project?\n${explanation}`;
  // Not `confirm`, which answers "no" for a user who leaves it.
  const question: OpenQuestion = {
    leave,
    answer: ui.select(title, [YES, "No"], { signal: leave.signal }).then((choice) => {
      if (choice === undefined || leave.signal.aborted) return undefined;
      rememberTrust(cwd, choice === YES);
      return choice === YES;
    }),
  };
  openQuestions.set(place, question);
  const close = (): void => {
    if (openQuestions.get(place) === question) openQuestions.delete(place);
  };
  question.answer.then(close, close);
  return question.answer;
}

const YES = "Yes";

/** Leaves an open question of a folder: it is answered otherwise, or its screen is gone. */
export function forgetQuestion(cwd: string): void {
  const place = resolved(cwd);
  const question = openQuestions.get(place);
  openQuestions.delete(place);
  question?.leave.abort();
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

/**
 * Reads Pi's decisions where Pi does not run. As in Pi, the nearest folder at or above the project decides, and a file that cannot be
 * read decides nothing.
 */
export class TrustFile {
  readonly #file: string;

  constructor(agentDir: string) {
    this.#file = join(agentDir, "trust.json");
  }

  get(cwd: string): boolean | null {
    const decisions = JSON.parse(readFileSync(this.#file, "utf8")) as Record<string, unknown>;
    let folder = resolved(cwd);
    for (;;) {
      const decision = decisions[folder];
      if (typeof decision === "boolean") return decision;
      if (dirname(folder) === folder) return null;
      folder = dirname(folder);
    }
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
