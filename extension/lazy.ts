/**
 * Parts of the extension that are loaded when they are needed, one at a time.
 *
 * Pi loads TypeScript with jiti, which hands a module that is still being evaluated to whoever asks for it second: two imports
 * side by side that share a file would find it half made.
 */

let last: Promise<unknown> = Promise.resolve();

/** Runs the import `load` once all earlier ones are done. */
export function part<T>(load: () => Promise<T>): Promise<T> {
  const loaded = last.then(load);
  last = loaded.catch(() => undefined);
  return loaded;
}
