/**
 * Reads and changes settings for the command and its screen.
 */
import { dirname } from "node:path";
import { rememberTrust } from "../project-trust.ts";
import type { AddonQueries, SettingKey, SettingsReport } from "../queries.ts";

/** The current settings. */
export class SettingsEditor {
  readonly #queries: AddonQueries;
  readonly keys: SettingKey[];
  report: SettingsReport;

  constructor(queries: AddonQueries) {
    this.#queries = queries;
    this.keys = queries.settingKeys();
    this.report = queries.settings();
  }

  /** Writes a setting, which takes effect at once. Throws an error with a message for the user. */
  change(scope: "home" | "project", path: string, text: string): SettingKey {
    const key = this.keys.find((candidate) => candidate.path === path);
    if (key === undefined) throw new Error(`${path} is not a setting`);
    const target = key.homeOnly ? "home" : scope;
    this.report = this.#queries.change(target, path, text);
    // A user who changes the file trusts it.
    if (target === "project" && this.report.project) rememberTrust(dirname(dirname(this.report.project.file)), true);
    return key;
  }

  /** Returns the current value as text. */
  current(key: SettingKey): string {
    return this.report.texts[key.path] ?? "";
  }
}
