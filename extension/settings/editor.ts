/**
 * Reads and changes settings for the command and its screen.
 */
import type { AddonQueries, SettingKey, SettingsReport } from "../queries.ts";
import type { ProjectChanges } from "./project-changes.ts";

const HOME_HERE = "The settings file of this folder is the home file";

/** The current settings. */
export class SettingsEditor {
  readonly #queries: AddonQueries;
  /** Keys with `*` in their path describe settings of that form. */
  readonly #known: SettingKey[];
  report: SettingsReport;
  readonly #project: ProjectChanges;

  constructor(queries: AddonQueries, project: ProjectChanges) {
    this.#queries = queries;
    this.#project = project;
    this.#known = queries.settingKeys();
    this.report = queries.settings();
  }

  /** Returns the settings to show: those with a fixed path, and of the others the ones that have a value. */
  get keys(): SettingKey[] {
    const paths = Object.keys(this.report.texts);
    return this.#known.flatMap((key) => paths.filter((path) => matches(key, path)).map((path) => ({ ...key, path })));
  }

  /** Returns the setting of a path; an error with a message for the user if there is none. */
  find(path: string): SettingKey {
    // What a terminal would carry out must not come back in a message.
    if (/\p{Cc}/u.test(path)) throw new Error("A setting's name holds no control characters");
    const key = this.#known.find((known) => matches(known, path));
    if (path.includes("*")) throw new Error(`Put a name in place of * in ${path}`);
    if (key !== undefined) return { ...key, path: this.#queries.settingPath(path) };
    throw new Error(`${path} is not a setting. Known: ${this.#known.map((known) => known.path).join(", ")}`);
  }

  /** Returns why the project's file cannot be changed, if it cannot. */
  get projectRefusal(): string | undefined {
    return this.report.project === null ? HOME_HERE : this.#project.refusal();
  }

  /** Writes a setting, which takes effect at once. Returns a remark about its value. Throws an error with a message for the user. */
  change(scope: "home" | "project", { path, homeOnly }: SettingKey, text: string): string | null {
    let remark: string | null = null;
    const write = (): void => {
      ({ report: this.report, remark } = this.#queries.change(scope, path, text));
    };
    if (scope === "home") write();
    else {
      if (homeOnly) throw new Error(`${path} counts only in the home file: leave out --project`);
      if (this.report.project === null) throw new Error(`${HOME_HERE}: leave out --project`);
      this.#project.run(write);
    }
    return remark;
  }

  /** Returns the current value as text. */
  current(key: SettingKey): string {
    return this.report.texts[key.path] ?? "not set";
  }
}

/** Whether a path is that of the key. The name in place of `*` may contain dots, as ids of models do. */
function matches(key: SettingKey, path: string): boolean {
  const [before = "", after] = key.path.split("*");
  if (after === undefined) return path === before;
  return path.length > before.length + after.length && path.startsWith(before) && path.endsWith(after);
}
