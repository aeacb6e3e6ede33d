/**
 * Keeps the settings of a session: enters its project, reports what is wrong in the files, and reads files again that have changed.
 */
import { existsSync, statSync } from "node:fs";
import type { ExtensionContext } from "@earendil-works/pi-coding-agent";
import type { ExtensionEnvironment } from "../environment.ts";
import { defer, lazyImport } from "../lazy.ts";
import type { TrustParts } from "../project-trust.ts";
import type { AddonQueries } from "../queries.ts";
import { warn } from "../warning.ts";
import { projectFile } from "../project-file.ts";

/** What the settings of a session work with. */
export interface SessionSettingsParts {
  queries: AddonQueries;
  extensionEnvironment: ExtensionEnvironment;
  trustParts: TrustParts;
}

/** The settings of one Pi. */
export class SessionSettings {
  readonly #queries: AddonQueries;
  readonly #environment: ExtensionEnvironment;
  readonly #trustParts: TrustParts;
  /** Problems that the user knows of. */
  #reported = new Set<string>();
  /** The state of the files when they were read last. */
  #seen = "";
  #homeFile: string | null = null;
  /** Id of the session; empty between two. */
  #session = "";
  /** The user has left the question of this session. */
  #left = false;

  constructor({ queries, extensionEnvironment, trustParts }: SessionSettingsParts) {
    this.#queries = queries;
    this.#environment = extensionEnvironment;
    this.#trustParts = trustParts;
  }

  /** Enters the project of a session. */
  async start(ctx: ExtensionContext): Promise<void> {
    // Pi's RPC mode announces a new session twice.
    const session = sessionId(ctx);
    if (session !== this.#session) this.#left = false;
    this.#session = session;
    // Without a file there is nothing to trust; one that appears during the session is decided about first.
    this.#environment.enterProject(ctx.cwd, false);
    await this.#read(ctx);
  }

  /** Ends a session. */
  async end(ctx: ExtensionContext): Promise<void> {
    this.#session = "";
    // A screen takes its dialogs away with the session; in RPC mode they stay open.
    if (ctx.mode !== "tui" || !existsSync(projectFile(ctx.cwd))) return;
    try {
      const { forgetQuestion } = await lazyImport(() => import("../project-trust.ts"));
      forgetQuestion(ctx.cwd);
    } catch {
      // An update has removed the file, and with it there was no question.
    }
  }

  /** Reads the files again if they have changed, so that the next turn follows them. */
  async refresh(ctx: ExtensionContext): Promise<void> {
    if (this.#state(ctx) === this.#seen) return;
    try {
      await this.#read(ctx);
      this.#queries.announceSettings();
    } catch {
      // The turn itself reports settings that it cannot use.
    }
  }

  async #read(ctx: ExtensionContext): Promise<void> {
    const isProject = existsSync(projectFile(ctx.cwd)) && this.#hasProject();
    this.#seen = this.#state(ctx);
    if (!isProject) return this.#report(ctx);
    const { askForTrust, projectTrust } = await lazyImport(() => import("../project-trust.ts"));
    const trusted = projectTrust(ctx, this.#trustParts);
    this.#environment.enterProject(ctx.cwd, trusted === true);
    if (trusted !== undefined || !ctx.hasUI || this.#left) return this.#report(ctx);
    const session = this.#session;
    defer(async () => {
      if (session !== this.#session) return;
      // It may have been answered meanwhile.
      const answer = projectTrust(ctx, this.#trustParts) ?? (this.#left ? undefined : await askForTrust(ctx));
      if (session !== this.#session) return;
      if (answer === undefined) this.#left = true;
      if (answer === true) {
        this.#environment.enterProject(ctx.cwd, true);
        this.#queries.announceSettings();
      }
      this.#report(ctx);
    });
  }

  /** Whether the file of the project is not the home file. */
  #hasProject(): boolean {
    try {
      return this.#queries.settings().project !== null;
    } catch {
      return true;
    }
  }

  /** Tells the user of problems that are new. */
  #report(ctx: ExtensionContext): void {
    try {
      const { problems, homeFile } = this.#queries.settings();
      const news = problems.filter((problem) => !this.#reported.has(problem));
      this.#reported = new Set(problems);
      if (this.#homeFile !== homeFile) {
        this.#homeFile = homeFile;
        this.#seen = this.#state(ctx);
      }
      if (news.length > 0) warn(ctx, `Kimi settings:\n${news.join("\n")}`);
    } catch {
      // The first request reports an unusable base URL.
    }
  }

  /** Describes the files without reading them. */
  #state(ctx: ExtensionContext): string {
    return [this.#homeFile, projectFile(ctx.cwd)].map(stamp).join("\n");
  }
}

/** Returns the id of a session; its folder where a program that embeds Pi has none. */
function sessionId({ sessionManager, cwd }: Partial<ExtensionContext>): string {
  return sessionManager?.getSessionId() ?? `in ${cwd}`;
}

function stamp(file: string | null): string {
  try {
    const stats = file === null ? undefined : statSync(file, { throwIfNoEntry: false });
    return stats === undefined ? "" : `${stats.ino} ${stats.size} ${stats.mtimeMs}`;
  } catch (error) {
    return String((error as NodeJS.ErrnoException).code);
  }
}
