/**
 * Finds Pi, and what Pi loads as a provider for Kimi Code (docs/pi-contract.md). Nothing here throws: files that cannot be read count
 * as missing.
 */
import { existsSync, readdirSync, readFileSync, realpathSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { delimiter, isAbsolute, join } from "node:path";
import { packageRoot, readManifest } from "../native/package-info.ts";

/** A package or file that Pi loads. */
export interface ProviderPackage {
  /** As Pi's settings name it. */
  source: string;
  version: string | undefined;
  /** Command that removes it, where `pi remove` does not. */
  removal?: string;
}

/** Returns the version of the Pi on the PATH. */
export function installedPi(): string | undefined {
  for (const folder of (process.env["PATH"] ?? "").split(delimiter).filter((path) => isAbsolute(path))) {
    const root = tolerant(() => packageRoot(realpathSync(join(folder, "pi"))));
    const manifest = root === undefined ? undefined : tolerant(() => readManifest(root));
    if (manifest?.name.endsWith("/pi-coding-agent")) return manifest.version;
  }
  return undefined;
}

/** Returns the Kimi providers among the packages and extensions of Pi, each once: of the user, and of the project here. */
export function providerPackages(agentDir: string, project = join(process.cwd(), ".pi")): ProviderPackage[] {
  const found = [...packagesOf(agentDir), ...packagesOf(project)];
  return found.filter(({ source }, at) => found.findIndex((one) => one.source === source) === at);
}

function packagesOf(agentDir: string): ProviderPackage[] {
  const settings = tolerant(
    () => JSON.parse(readFileSync(join(agentDir, "settings.json"), "utf8")) as { packages?: unknown },
  );
  const listed = Array.isArray(settings?.packages) ? (settings.packages as unknown[]) : [];
  const found: ProviderPackage[] = [];
  for (const entry of listed) {
    const source = typeof entry === "string" ? entry : (entry as { source?: unknown } | null)?.source;
    if (typeof source !== "string") continue;
    const manifest = tolerant(() => readManifest(folderOf(source, agentDir)));
    // A package that is not installed yet counts by its name.
    if (/kimi-cod(e|ing)/i.test(manifest?.name ?? source)) found.push({ source, version: manifest?.version });
  }
  const extensions = join(agentDir, "extensions");
  for (const name of tolerant(() => readdirSync(extensions)) ?? []) {
    const path = join(extensions, name);
    if (!providesKimi(path)) continue;
    const manifest = tolerant(() => readManifest(path));
    found.push({ source: path, version: manifest?.version, removal: `rm -r ${path}` });
  }
  return found;
}

/** Returns the folder in which Pi keeps a package. */
function folderOf(source: string, agentDir: string): string {
  const npm = /^npm:((?:@[^/@]+\/)?[^@]+)/.exec(source)?.[1];
  if (npm !== undefined) return join(agentDir, "npm", "node_modules", npm);
  const git = /^(?:git:)?(?:https?:\/\/|ssh:\/\/)?(?:[^@/]+@)?([\w.-]+\.\w+)[/:](.+?)(?:\.git)?(?:[@#].*)?$/.exec(
    source,
  );
  if (/^(git:|https?:|ssh:)/.test(source) && git !== null) return join(agentDir, "git", git[1] ?? "", git[2] ?? "");
  const path = source.replace(/^~(?=$|[\\/])/, homedir());
  return isAbsolute(path) ? path : join(agentDir, path);
}

/** Whether an extension, a file or a folder, registers our provider. */
function providesKimi(path: string): boolean {
  const files = tolerant(() => statSync(path).isDirectory())
    ? ["index.ts", "index.js", "package.json"].map((name) => join(path, name))
    : [path];
  return files.some((file) => {
    const text = existsSync(file) ? (tolerant(() => readFileSync(file, "utf8")) ?? "") : "";
    return file.endsWith("package.json")
      ? /"name"\s*:\s*"[^"]*kimi-cod(e|ing)/i.test(text)
      : text.includes("registerProvider") && text.includes("kimi-coding");
  });
}

function tolerant<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}
