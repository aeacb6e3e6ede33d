/**
 * Loads parts of the extension when they are needed, one at a time.
 *
 * Pi loads TypeScript with jiti, which returns modules that are still being evaluated: of two concurrent imports that share a
 * file, the second would see it unfinished.
 */

let last: Promise<unknown> = Promise.resolve();

/** Runs the import `load` after all earlier ones. */
export function lazyImport<T>(load: () => Promise<T>): Promise<T> {
  const loaded = last.then(load);
  last = loaded.catch(() => undefined);
  return loaded;
}

/** Delay of background work, so that Pi draws its first frame before it. */
const AFTER_FIRST_FRAME_MS = 50;

/** Runs `task` soon, in the background. Errors are ignored, and a pending task does not keep the process alive. */
export function defer(task: () => Promise<unknown>): void {
  setTimeout(() => void task().catch(() => undefined), AFTER_FIRST_FRAME_MS).unref();
}
