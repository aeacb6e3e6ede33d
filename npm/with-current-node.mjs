// Runs a script of this project under a Node that is recent enough for Pi (22.19 or later).
//
// If the machine's Node is older, a current one is fetched and cached by npm; the system is not changed. This file must run on
// Node 20 itself, so it is plain JavaScript without imports from this project.
import { spawn, spawnSync } from "node:child_process";
import { constants } from "node:os";
import { delimiter, dirname } from "node:path";

const MINIMUM = [22, 19];
const FETCHED = "24";

function isNewEnough(version) {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  return major > MINIMUM[0] || (major === MINIMUM[0] && minor >= MINIMUM[1]);
}

/** Returns the path of a Node binary that is recent enough. */
function currentNode() {
  if (isNewEnough(process.versions.node)) return process.execPath;
  const platform = process.platform === "win32" ? "win" : process.platform;
  const name = `node-${platform}-${process.arch}@${FETCHED}`;
  const found = spawnSync("npm", ["exec", "--yes", `--package=${name}`, "--", "node", "-p", "process.execPath"], {
    encoding: "utf8",
    shell: process.platform === "win32",
  });
  const path = found.stdout?.trim().split("\n").at(-1) ?? "";
  if (found.status !== 0 || path === "") {
    console.error(
      `This needs Node ${MINIMUM.join(".")} or newer (this is ${process.versions.node}), and fetching ${name} through npm failed:\n` +
        (found.stderr || found.error?.message || "no output").trim(),
    );
    process.exit(1);
  }
  return path;
}

const [script, ...args] = process.argv.slice(2);
if (script === undefined) {
  console.error("usage: node npm/with-current-node.mjs <script> [arguments]");
  process.exit(2);
}
const node = currentNode();
const child = spawn(node, [script, ...args], {
  stdio: "inherit",
  env: { ...process.env, PATH: `${dirname(node)}${delimiter}${process.env.PATH ?? ""}` },
});
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => child.kill(signal));
child.on("exit", (code, signal) => process.exit(signal ? 128 + (constants.signals[signal] ?? 0) : (code ?? 1)));
