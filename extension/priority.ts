/** Which requests go first when all places of an account are taken: recognised from who watches, and who started this process. */

/** Which requests go first: those of a watched session, of a process that an agent started, all others. */
export type Priority = "interactive" | "agent" | "batch";

/** Tells processes started from here that they work for a Pi: its process id, and `agent` or `screen` about itself. */
const PI_MARK = "KIMI_CODE_STARTED_BY";

/** Returns whether another Pi started this process, and whether a user watches a session of it. */
function readMark(): { isAgent: boolean; isWatched: boolean } {
  const [pid, about] = (process.env[PI_MARK] ?? "").split(" ");
  const isOwn = pid === String(process.pid);
  return { isAgent: pid !== "" && (!isOwn || about === "agent"), isWatched: isOwn && about === "screen" };
}

/** Marks the environment of this Pi's children. */
export function markChildren(hasUI: boolean): void {
  const { isAgent, isWatched } = readMark();
  // The mark of the parent is replaced, so what it said is kept: sessions may follow in this process.
  const about = isAgent ? " agent" : hasUI || isWatched ? " screen" : "";
  process.env[PI_MARK] = `${process.pid}${about}`;
}

/** Returns the priority of a session or program that no user watches. */
export function unwatchedPriority(): Priority {
  const { isAgent, isWatched } = readMark();
  return isAgent || isWatched ? "agent" : "batch";
}

/** Returns the priority of a session of Pi. A user watches a screen, while a program behind RPC may work for another Pi. */
export function sessionPriority({ mode, hasUI }: { mode: string; hasUI: boolean }): Priority {
  if (mode === "tui" || (hasUI && !readMark().isAgent)) return "interactive";
  return unwatchedPriority();
}
