/** Work that nobody waits for: Pi draws first. */
const AFTER_FIRST_FRAME_MS = 50;

/** Runs `task` soon. Its failure is nobody's business, and it never keeps the process. */
export function later(task: () => Promise<unknown>): void {
  setTimeout(() => void task().catch(() => undefined), AFTER_FIRST_FRAME_MS).unref();
}
