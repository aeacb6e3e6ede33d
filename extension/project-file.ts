/** Where the settings of a project are. */
import { join } from "node:path";

/** Returns the settings file of a project. */
export function projectFile(directory: string): string {
  return join(directory, ".pi", "pi-provider-kimi-code.json");
}
