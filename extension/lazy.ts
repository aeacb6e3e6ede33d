/**
 * Parts of the extension that are loaded when they are needed, one at a time.
 *
 * Pi loads TypeScript with jiti, which hands a module that is still being evaluated to whoever asks for it second: two imports
 * side by side that share a file would find it half made.
 */

let last: Promise<unknown> = Promise.resolve();

/** Runs the import `load` once all earlier ones are done. */
export function lazyImport<T>(load: () => Promise<T>): Promise<T> {
  const loaded = last.then(load);
  last = loaded.catch(() => undefined);
  return loaded;
}

/** Delay of work that nobody waits for: Pi draws first. */
const AFTER_FIRST_FRAME_MS = 50;

/** Runs `task` soon. Its failure is nobody's business, and it never keeps the process. */
export function defer(task: () => Promise<unknown>): void {
  setTimeout(() => void task().catch(() => undefined), AFTER_FIRST_FRAME_MS).unref();
}
