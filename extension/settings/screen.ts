/**
 * Shows the screen of `/kimi-settings`: account and quota on top, an editable list below.
 *
 * The screen opens at once. Account, quota and models are queried at the same time and appear when they arrive.
 */
import type { ExtensionCommandContext, Theme } from "@earendil-works/pi-coding-agent";
import type { SettingItem, SettingsList, SettingsListTheme } from "@earendil-works/pi-tui";
import { failure } from "../command-output.ts";
import type { PiCredentials } from "../credential.ts";
import type { ModelList } from "../models.ts";
import type { AddonQueries, Profile, Quota, SettingKey } from "../queries.ts";
import { accountText, problemText, quotaRows, walletRows } from "../quota.ts";
import type { SettingsEditor } from "./editor.ts";
import { modelText } from "./format.ts";
import { prompt, type PromptParts } from "./prompt.ts";

/** What the screen uses of Pi's packages. pi.ts imports them, because Node programs do not have them. */
export interface ScreenParts extends PromptParts {
  tui: {
    SettingsList: typeof SettingsList;
  } & PromptParts["tui"];
  listTheme(): SettingsListTheme;
}

type Loadable<T> = T | { error: string } | undefined;

/** Id of the row that selects the file. */
const SCOPE = "scope";

/** Rows of the list on the screen. */
const VISIBLE_ROWS = 12;

/** Shows the screen until the user leaves it. */
export async function settingsScreen(
  parts: ScreenParts,
  { queries, credentials, models }: { queries: AddonQueries; credentials: PiCredentials; models: ModelList },
  editor: SettingsEditor,
  ctx: ExtensionCommandContext,
): Promise<void> {
  await ctx.ui.custom<void>((tui, theme, _keys, done) => {
    const screen = new Screen(parts, editor, models, ctx, theme, () => done(undefined));
    const arrived = (change: () => void): void => {
      change();
      tui.requestRender();
    };
    void credentials
      .current(ctx)
      .catch(() => ({}))
      .then((credential) =>
        Promise.all([
          queries.profile(credential).then(
            (profile) => arrived(() => (screen.profile = profile)),
            (error: unknown) => arrived(() => (screen.profile = failure(error))),
          ),
          queries.quota(credential).then(
            (quota) => arrived(() => (screen.quota = quota)),
            (error: unknown) => arrived(() => (screen.quota = failure(error))),
          ),
          models.update(credential).then(() => arrived(() => undefined)),
        ]),
      );
    return {
      render: (width) => screen.render(width),
      invalidate: () => screen.invalidate(),
      handleInput: (data) => {
        screen.list.handleInput(data);
        tui.requestRender();
      },
    };
  });
}

class Screen {
  profile: Loadable<Profile>;
  quota: Loadable<Quota>;
  readonly list: SettingsList;
  readonly #parts: ScreenParts;
  readonly #editor: SettingsEditor;
  readonly #models: ModelList;
  readonly #ctx: ExtensionCommandContext;
  readonly #theme: Theme;
  #scope: "home" | "project" = "home";
  #problem = "";

  constructor(
    parts: ScreenParts,
    editor: SettingsEditor,
    models: ModelList,
    ctx: ExtensionCommandContext,
    theme: Theme,
    leave: () => void,
  ) {
    this.#parts = parts;
    this.#editor = editor;
    this.#models = models;
    this.#ctx = ctx;
    this.#theme = theme;
    const items = [this.#scopeItem(), ...editor.keys.map((key) => this.#item(key))];
    this.list = new parts.tui.SettingsList(
      items,
      VISIBLE_ROWS,
      parts.listTheme(),
      (id, value) => this.#change(id, value),
      leave,
      { enableSearch: true },
    );
  }

  render(width: number): string[] {
    const theme = this.#theme;
    const rows = ["", theme.fg("accent", theme.bold("Kimi settings")), this.#account(), this.#model(), ""];
    rows.push(...this.#quota(width));
    for (const problem of this.#editor.report.problems) rows.push(theme.fg("warning", problem));
    if (this.#problem !== "") rows.push(theme.fg("error", this.#problem));
    const fitted = rows.map((row) => this.#parts.tui.truncateToWidth(row, width));
    return [...fitted, "", ...this.list.render(width)];
  }

  invalidate(): void {
    this.list.invalidate();
  }

  #account(): string {
    if (this.profile === undefined) return this.#theme.fg("dim", "Account …");
    if ("error" in this.profile) return this.#theme.fg("warning", `Account: ${this.profile.error}`);
    return accountText(this.profile);
  }

  #model(): string {
    return this.#theme.fg("muted", modelText(this.#ctx, this.#models, this.#editor.report));
  }

  #quota(width: number): string[] {
    const theme = this.#theme;
    const quota = this.quota;
    if (quota === undefined) return [theme.fg("dim", "Usage …")];
    if ("error" in quota) return [theme.fg("warning", `Usage: ${quota.error}`)];
    const rows = quotaRows(quota, width, theme);
    if (quota.usage?.wallet) rows.push(...walletRows(quota.usage.wallet));
    const problem = problemText(quota);
    if (problem !== undefined) rows.push(theme.fg("dim", problem));
    return rows;
  }

  #scopeItem(): SettingItem {
    const { project, homeFile } = this.#editor.report;
    const editable = project?.trusted === true;
    const note = editable
      ? `Which file is changed: home (${homeFile ?? "none"}) or project (${project.file}).`
      : "Changes go to the home file; a project's file can be changed once Pi trusts the project.";
    return {
      id: SCOPE,
      label: "Changes go to",
      currentValue: this.#scope,
      description: note,
      values: editable ? ["home", "project"] : ["home"],
    };
  }

  #item(key: SettingKey): SettingItem {
    const origin = this.#editor.report.origins[key.path];
    const from = origin === undefined ? "" : ` Set by ${origin}.`;
    const item = {
      id: key.path,
      // The list aligns labels of at most 36 columns.
      label: key.path.replace(/^tools\./, ""),
      currentValue: this.#editor.current(key),
      description: key.help + from,
    };
    if (key.form === "switch") return { ...item, values: ["on", "off"] };
    if (key.choices !== null) return { ...item, values: key.choices };
    return { ...item, submenu: (current, done) => prompt(this.#parts, this.#theme, key, current, done) };
  }

  #change(id: string, value: string): void {
    this.#problem = "";
    if (id === SCOPE) {
      this.#scope = value === "project" ? "project" : "home";
      return;
    }
    try {
      this.#editor.change(this.#scope, id, value);
    } catch (error) {
      this.#problem = failure(error).error;
    }
    // A stronger source may outrank the change, so the effective value is shown.
    for (const key of this.#editor.keys) this.list.updateValue(key.path, this.#editor.current(key));
    const origin = this.#editor.report.origins[id] ?? "";
    if (this.#problem === "" && /^(environment variable|KIMI_CODE_SETTINGS|the options)/.test(origin)) {
      this.#problem = `${id} is also set by ${origin}, which outranks the file.`;
    }
  }
}
