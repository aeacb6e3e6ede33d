// Starts interactive Pi with this checkout's extension, the real service, and your own settings and login.
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { buildAddon } from "./build.mjs";

const ROOT = join(import.meta.dirname, "..");
buildAddon(true);
const cli = join(ROOT, "node_modules/@earendil-works/pi-coding-agent/dist/bundle/cli.js");
const { status } = spawnSync(process.execPath, [cli, "-e", ROOT, ...process.argv.slice(2)], { stdio: "inherit" });
process.exit(status ?? 1);
