/**
 * What the program around us may decide.
 */

/** Any part of a settings file (docs/settings.md); outranks files and environment. */
export interface SettingsOverrides {
  /** Root of the service, with or without a final `/v1`. */
  baseUrl?: string;
  [setting: string]: unknown;
}

/** For an extension of one's own: settings, and what no settings file may hold. */
export interface Overrides extends SettingsOverrides {
  /** Kimi Code key; outranks what Pi has stored. */
  apiKey?: string;
  /** Variables of docs/ENV.md that outrank the process environment. */
  env?: Record<string, string>;
}

/** Settings as the variable that carries them; nothing where there are none. */
export function settingsVariable(settings: SettingsOverrides): Record<string, string> {
  const text = JSON.stringify(settings);
  return text === "{}" ? {} : { KIMI_CODE_SETTINGS: text };
}
