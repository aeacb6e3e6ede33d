/** One chat of the fault matrix, with a check of everything that is promised for its events. */
import { type Kimi, KimiError } from "../../index.ts";

/** The answer of every setup, in two chunks; faults after output affect the second. */
export const BEFORE = "First words.";
export const AFTER = " Second words.";

/** How a chat ended. */
export interface PlayedChat {
  /** `answer` or the error's code. */
  outcome: string;
  /** The first attempt and the retries that were announced. */
  attempts: number;
  /** Violations of what is promised for every chat. */
  problems: string[];
}

/** What happens around a chat. */
interface Play {
  /** The fault comes after the first words. */
  late?: boolean;
  onRetry?: () => Promise<void>;
  /** The chat waits for a quota window. */
  onParked?: () => Promise<void>;
}

/** Runs a chat. */
export async function playChat(
  kimi: Kimi,
  content: string | object[],
  { late = false, onRetry, onParked }: Play = {},
): Promise<PlayedChat> {
  const problems: string[] = [];
  const answer = kimi.chat([{ role: "user", content: content as string }]);
  const kinds: string[] = [];
  let shown = "";
  let outcome = "answer";
  try {
    for await (const event of answer) {
      kinds.push(event.type);
      if (event.type === "text_delta") shown += event.delta;
      if (event.type === "retry") await onRetry?.();
      if (event.type === "parked") await onParked?.();
    }
  } catch (error) {
    outcome = codeOf(error, problems);
    const partial = error instanceof KimiError ? error.partial : undefined;
    const kept = (partial?.content ?? []).map((part) => (part.type === "text" ? part.text : "")).join("");
    if (kept !== shown) problems.push(`kept ${JSON.stringify(kept)}, shown ${JSON.stringify(shown)}`);
  }
  const count = (wanted: string): number => kinds.filter((kind) => kind === wanted).length;
  const done = count("done");
  const attempts = 1 + count("retry");
  if (done + (outcome === "answer" ? 0 : 1) !== 1) problems.push(`${done} done events, outcome ${outcome}`);
  if (done === 1 && kinds.at(-1) !== "done") problems.push("something came after the end");
  if (count("start") > attempts) problems.push("it began too often");
  const failed = late ? BEFORE : "";
  if (shown !== (outcome === "answer" ? BEFORE + AFTER : failed)) problems.push(`shown: ${JSON.stringify(shown)}`);
  const settled = await answer.final().then(
    () => "answer",
    (error: unknown) => codeOf(error, problems),
  );
  if (settled !== outcome) problems.push(`events say ${outcome}, the promise says ${settled}`);
  return { outcome, attempts, problems };
}

/** Code of an error, which has to be a `KimiError`. */
export function codeOf(error: unknown, problems: string[]): string {
  if (error instanceof KimiError) return error.code;
  problems.push(`not a KimiError: ${String(error)}`);
  return "?";
}
