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
  /** How it is removed, where `pi remove` does not do it. */
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
  const file = join(agentDir, "settings.json");
  const settings = tolerant(
    () => JSON.parse(readFileSync(file, "utf8")) as { packages?: unknown; extensions?: unknown },
  );
  const found: ProviderPackage[] = [];
  for (const entry of entries(settings?.packages)) {
    const source = typeof entry === "string" ? entry : (entry as { source?: unknown } | null)?.source;
    if (typeof source !== "string") continue;
    const manifest = tolerant(() => readManifest(folderOf(source, agentDir)));
    // A package that is not installed yet counts by its name.
    if (/kimi-cod(e|ing)/i.test(manifest?.name ?? source)) found.push({ source, version: manifest?.version });
  }
  for (const path of inside(join(agentDir, "extensions")).filter(providesKimi)) {
    found.push({ ...extension(path), removal: `Run \`rm -r ${path}\`` });
  }
  for (const [path, entry] of listedExtensions(entries(settings?.extensions), agentDir)) {
    if (!providesKimi(path)) continue;
    found.push({ ...extension(path), removal: `Remove ${JSON.stringify(entry)} from \`extensions\` in ${file}` });
  }
  return found;
}

function entries(list: unknown): unknown[] {
  return Array.isArray(list) ? (list as unknown[]) : [];
}

function extension(path: string): ProviderPackage {
  return { source: path, version: tolerant(() => readManifest(path))?.version };
}

/** Returns the paths in a folder. */
function inside(folder: string): string[] {
  return (tolerant(() => readdirSync(folder)) ?? []).map((name) => join(folder, name));
}

/** Returns the extensions that Pi's setting names, each with its entry: files, folders, and what folders of extensions hold. */
function listedExtensions(list: unknown[], agentDir: string): [path: string, entry: string][] {
  const texts = list.filter((entry) => typeof entry === "string");
  // Entries with `!` and `-` exclude. Globs among them are left to Pi.
  const excluded = new Set(
    texts.filter((text) => /^[!-]/.test(text)).map((text) => resolvedFrom(text.slice(1), agentDir)),
  );
  const named = texts.filter((text) => !/^[!+-]/.test(text));
  const paths = named.flatMap((text): [string, string][] => {
    const path = resolvedFrom(text, agentDir);
    return [path, ...(providesKimi(path) ? [] : inside(path))].map((one) => [one, text]);
  });
  return paths.filter(([path]) => !excluded.has(path));
}

/** Returns the folder in which Pi keeps a package. */
function folderOf(source: string, agentDir: string): string {
  const npm = /^npm:((?:@[^/@]+\/)?[^@]+)/.exec(source)?.[1];
  if (npm !== undefined) return join(agentDir, "npm", "node_modules", npm);
  const git = /^(?:git:)?(?:https?:\/\/|ssh:\/\/)?(?:[^@/]+@)?([\w.-]+\.\w+)[/:](.+?)(?:\.git)?(?:[@#].*)?$/.exec(
    source,
  );
  if (/^(git:|https?:|ssh:)/.test(source) && git !== null) return join(agentDir, "git", git[1] ?? "", git[2] ?? "");
  return resolvedFrom(source, agentDir);
}

/** Returns the path that Pi's settings mean. */
function resolvedFrom(text: string, agentDir: string): string {
  const path = text.replace(/^~(?=$|[\\/])/, homedir());
  return isAbsolute(path) ? join(path) : join(agentDir, path);
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
