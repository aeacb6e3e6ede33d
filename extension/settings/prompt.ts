/**
 * Shows the line of `/kimi-settings` into which a value is typed, with the expected form below it.
 */
import type { Theme } from "@earendil-works/pi-coding-agent";
import type { Component, Input } from "@earendil-works/pi-tui";
import type { SettingKey } from "../queries.ts";

/** What the prompt uses of Pi's packages. */
export interface PromptParts {
  tui: {
    Input: typeof Input;
    truncateToWidth(text: string, width: number, ellipsis?: string): string;
  };
}

/** Creates the component. `done` gets the typed text, or nothing if the user left it. */
export function prompt(
  { tui }: PromptParts,
  theme: Theme,
  key: SettingKey,
  current: string,
  done: (value?: string) => void,
): Component {
  const input = new tui.Input();
  input.focused = true;
  input.onSubmit = (value) => done(value.trim() === "" ? undefined : value);
  input.onEscape = () => done();
  const head = `${theme.bold(key.path)} ${theme.fg("muted", `is ${current}`)}`;
  const hint = theme.fg("dim", `Expected ${key.expected}, or "default". Enter to set · Esc to leave`);
  return {
    render: (width) => [tui.truncateToWidth(head, width), ...input.render(width), tui.truncateToWidth(hint, width)],
    handleInput: (data) => input.handleInput(data),
    invalidate: () => undefined,
  };
}
