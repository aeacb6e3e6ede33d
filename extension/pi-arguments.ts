/**
 * Pi without a screen. Print and JSON mode never ask for the model list, and Pi chooses model and thinking level before the first turn
 * (docs/pi-contract.md#model-refresh), so a missing list is waited for when the extension loads.
 */

/** Longest wait for the list in milliseconds: before the only turn, and before a list on the terminal. */
const BEFORE_TURN_MS = 1500;
const BEFORE_LIST_MS = 1000;

/** Returns the value of a flag of Pi, and "" for a flag without one. */
function flag(args: readonly string[], ...names: string[]): string | undefined {
  const at = args.findIndex((argument) => names.includes(argument));
  return at < 0 ? undefined : (args[at + 1] ?? "");
}

/** Returns how long Pi with these arguments may wait for the model list: 0 where it has a screen, or uses another provider's model. */
export function listWait(args: readonly string[]): number {
  if (flag(args, "--list-models") !== undefined) return BEFORE_LIST_MS;
  if (flag(args, "-p", "--print") === undefined && flag(args, "--mode") !== "json") return 0;
  const chosen = `${flag(args, "--provider") ?? ""}/${flag(args, "--model") ?? ""}`;
  return chosen === "/" || /kimi|(^|\/)k\d/i.test(chosen) ? BEFORE_TURN_MS : 0;
}

/** Returns the credential that Pi gets as an argument. */
export function argumentKey(args: readonly string[]): string | undefined {
  return flag(args, "--api-key");
}
