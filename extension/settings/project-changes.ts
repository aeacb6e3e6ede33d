/**
 * Changes the settings file of a project on the user's own command, which also answers whether the file counts.
 */
import { existsSync } from "node:fs";
import type { ExtensionContext } from "@earendil-works/pi-coding-agent";
import type { ExtensionEnvironment } from "../environment.ts";
import { decisionOfPi, forgetQuestion, projectTrust, rememberTrust, type TrustParts } from "../project-trust.ts";
import { projectFile } from "../project-file.ts";

/** Changes of one project. */
export class ProjectChanges {
  readonly #ctx: ExtensionContext;
  readonly #trustParts: TrustParts;
  readonly #environment: ExtensionEnvironment;

  constructor(ctx: ExtensionContext, trustParts: TrustParts, environment: ExtensionEnvironment) {
    this.#ctx = ctx;
    this.#trustParts = trustParts;
    this.#environment = environment;
  }

  /** Returns why the file cannot be changed, if it cannot. */
  refusal(): string | undefined {
    const { cwd, hasUI } = this.#ctx;
    if (decisionOfPi(this.#ctx, this.#trustParts) === false) return "Pi does not trust this project";
    // A prompt may come from a script, so it does not answer for the user. A new file has nothing that the user did not write.
    const isNew = !existsSync(projectFile(cwd));
    if (hasUI || isNew || projectTrust(this.#ctx, this.#trustParts) === true) return undefined;
    return "This project is not trusted: run the command on a screen, or start Pi with --approve";
  }

  /** Runs a change of the file. Throws an error for the user if it is refused or fails; then nothing about trust changes. */
  run(change: () => void): void {
    const refusal = this.refusal();
    if (refusal !== undefined) throw new Error(refusal);
    const { cwd } = this.#ctx;
    this.#environment.enterProject(cwd, true);
    try {
      change();
    } catch (error) {
      this.#environment.enterProject(cwd, projectTrust(this.#ctx, this.#trustParts) === true);
      throw error;
    }
    rememberTrust(cwd, true);
    forgetQuestion(cwd);
  }
}
