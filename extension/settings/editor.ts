/**
 * Reads and changes settings for the command and its screen.
 */
import type { Facts, SettingKey, SettingsReport } from "../queries.ts";
import { shown, typed, valueAt } from "./format.ts";

/** The settings that apply now. */
export class SettingsEditor {
  readonly #facts: Facts;
  readonly keys: SettingKey[];
  report: SettingsReport;

  constructor(facts: Facts) {
    this.#facts = facts;
    this.keys = facts.settingKeys();
    this.report = facts.settings();
  }

  /** Writes a setting and lets it count at once. Throws with a readable message. */
  change(scope: "home" | "project", path: string, text: string): SettingKey {
    const key = this.keys.find((candidate) => candidate.path === path);
    if (key === undefined) throw new Error(`${path} is not a setting`);
    this.report = this.#facts.change(key.homeOnly ? "home" : scope, path, typed(key, text));
    return key;
  }

  current(key: SettingKey): string {
    return shown(key, valueAt(this.report.settings, key.path));
  }
}
