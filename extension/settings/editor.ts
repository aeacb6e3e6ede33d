/**
 * Reads and changes settings for the command and its screen.
 */
import { dirname } from "node:path";
import { rememberTrust } from "../project-trust.ts";
import type { AddonQueries, SettingKey, SettingsReport } from "../queries.ts";

/** The current settings. */
export class SettingsEditor {
  readonly #queries: AddonQueries;
  /** Keys with `*` in their path describe settings of that form. */
  readonly #known: SettingKey[];
  report: SettingsReport;

  constructor(queries: AddonQueries) {
    this.#queries = queries;
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

  /** Writes a setting, which takes effect at once. Throws an error with a message for the user. */
  change(scope: "home" | "project", path: string, text: string): SettingKey {
    const key = this.find(path);
    const target = key.homeOnly ? "home" : scope;
    this.report = this.#queries.change(target, path, text);
    // A user who changes the file trusts it.
    if (target === "project" && this.report.project) rememberTrust(dirname(dirname(this.report.project.file)), true);
    return key;
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
