/**
 * Declares the settings that a program passes to the client or the extension.
 */

/** Any part of a settings file (docs/settings.md); outranks files and environment, `KIMI_CODE_SETTINGS` included. */
export interface SettingsOverrides {
  /** Root of the service, with or without a final `/v1`. */
  baseUrl?: string;
  [setting: string]: unknown;
}

/** Options of `KimiCode(…)`: settings, and what a settings file cannot hold. */
export interface Overrides extends SettingsOverrides {
  /** Kimi Code key; outranks what Pi has stored. */
  apiKey?: string;
  /** Variables of docs/ENV.md that outrank the process environment. */
  env?: Record<string, string>;
}

/** What the addon calls the source of these settings. */
export const OPTIONS_SOURCE = "the options of the program";

/** Writes settings into the variable that carries them to the addon; no settings, no variable. */
export function settingsVariable(settings: SettingsOverrides): Record<string, string> {
  const text = JSON.stringify(settings);
  return text === "{}" ? {} : { KIMI_CODE_OPTIONS: text };
}
