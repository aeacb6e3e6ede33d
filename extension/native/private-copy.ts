/**
 * Copies the addon where the installed file itself cannot be loaded: on Windows, where a loaded file can neither be replaced nor
 * removed, and after an update, when the process still holds the old file (docs/pi-contract.md#addon-lifetime).
 */
import { homedir } from "node:os";
import { basename, join } from "node:path";
import { fs } from "../node-fs.ts";

/** Makes a copy, named by version and content, and returns its path; `undefined` if that fails. */
export function privateCopy(file: string, version: string): string | undefined {
  try {
    const bytes = fs.readFileSync(file);
    const name = `${version}-${digest(bytes)}`;
    const copies = join(homedir(), ".pi", "pi-provider-kimi-code", "native");
    const copy = join(copies, name, basename(file));
    if (!isSame(copy, bytes)) {
      fs.mkdirSync(join(copies, name), { recursive: true, mode: 0o700 });
      const fresh = `${copy}.${process.pid}`;
      fs.writeFileSync(fresh, bytes, { mode: 0o700 });
      fs.renameSync(fresh, copy);
    }
    removeOthers(copies, name);
    return copy;
  } catch {
    return undefined;
  }
}

function digest(bytes: Buffer): string {
  // Not imported, because that costs every start milliseconds and is rarely needed.
  return process.getBuiltinModule("node:crypto").createHash("sha256").update(bytes).digest("hex").slice(0, 16);
}

function isSame(copy: string, bytes: Buffer): boolean {
  try {
    return fs.readFileSync(copy).equals(bytes);
  } catch {
    return false;
  }
}

/** Removes the copies of other versions. */
function removeOthers(copies: string, name: string): void {
  for (const other of fs.readdirSync(copies)) {
    if (other === name) continue;
    try {
      fs.rmSync(join(copies, other), { recursive: true });
    } catch {
      // Windows does not remove files that are in use.
    }
  }
}
