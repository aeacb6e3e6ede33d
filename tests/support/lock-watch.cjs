// Preloaded before shifted-clock.cjs into programs that use the npm package proper-lockfile: notes in the file that
// KIMI_TEST_TAKEOVERS names which locks they take over, and what they saw.
const fs = require("node:fs");

const { mkdir, rmdir } = fs;
const realNow = Date.now;

/** Age from which the official client takes its lock over, in milliseconds. */
const STALE_MS = 5000;

/** Directories that this program created. The package removes its own locks in the same way, and one may look stale by then. */
const own = new Set();

fs.mkdir = (path, ...rest) => {
  const callback = rest.pop();
  mkdir.call(fs, path, ...rest, (error, ...made) => {
    if (!error) own.add(path);
    callback(error, ...made);
  });
};

fs.rmdir = (path, ...rest) => {
  if (own.delete(path)) return rmdir.call(fs, path, ...rest);
  try {
    const { mtimeMs, ctimeMs } = fs.statSync(path);
    // By its own, shifted clock, as the package judges it.
    const ageMs = Date.now() - mtimeMs;
    const at = realNow();
    // The kernel notes with its own clock when the holder touched the lock.
    const untouchedMs = at - ctimeMs;
    const seen = { lock: path, at, ageMs, untouchedMs };
    if (ageMs > STALE_MS) fs.appendFileSync(process.env.KIMI_TEST_TAKEOVERS, `${JSON.stringify(seen)}\n`);
  } catch {
    // There is no lock, or nothing to note it in.
  }
  return rmdir.call(fs, path, ...rest);
};
