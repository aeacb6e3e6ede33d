// Preloaded before shifted-clock.cjs into the official client: stops it when it is about to take the lock that KIMI_TEST_LOCK names for the
// first time. Notes that in the file KIMI_TEST_MEETINGS, and then when it finds the lock taken.
const fs = require("node:fs");

const { appendFileSync, mkdir } = fs;
const { now } = Date;

let isFirst = true;

function note(what) {
  appendFileSync(process.env.KIMI_TEST_MEETINGS, `${JSON.stringify({ what, pid: process.pid, at: now() })}\n`);
}

fs.mkdir = (path, ...rest) => {
  if (path !== process.env.KIMI_TEST_LOCK) return mkdir.call(fs, path, ...rest);
  if (isFirst) {
    isFirst = false;
    note("stopped");
    process.kill(process.pid, "SIGSTOP");
  }
  const callback = rest.pop();
  mkdir.call(fs, path, ...rest, (error, ...made) => {
    if (error?.code === "EEXIST") note("taken");
    callback(error, ...made);
  });
};
