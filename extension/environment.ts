/**
 * Describes the surrounding process to the addon: its environment variables and the calling program.
 *
 * Variables are read for every request, so that a change of `process.env` counts from the next request on.
 */
import { homedir, hostname, release, type } from "node:os";

/** The only variables that are passed to the addon, besides the working directory as `PWD`. */
const RELEVANT =
  /^(HOME|TZ|KIMI_.*|PI_CACHE_RETENTION|PI_CODING_AGENT_DIR|NODE_EXTRA_CA_CERTS|SSL_CERT_FILE|SSL_CERT_DIR|(https?|all|no)_proxy)$/i;

export type Environment = Record<string, string>;

/** Variables as callers pass them. */
export type Variables = Record<string, string | undefined>;

/** Takes a snapshot of the relevant variables; `overrides` outrank `process.env`. */
export function environment(overrides: Variables = {}): Environment {
  const snapshot: Environment = { HOME: tolerant(homedir), PWD: tolerant(() => process.cwd()) };
  for (const source of [process.env, overrides]) {
    // Not the entries: each value that is read makes a new string, and most are of no interest.
    for (const name of Object.keys(source)) {
      if (!RELEVANT.test(name)) continue;
      const value = source[name];
      if (value !== undefined) snapshot[name] = value;
    }
  }
  return snapshot;
}

/** The variables of one extension. A process may hold several, each with its own sessions. */
export class ExtensionEnvironment {
  readonly #fixed: Environment;
  #project: Environment = {};
  #screen: Environment = {};

  /** `fixed`: variables from the program that embeds the extension. */
  constructor(fixed: Environment = {}) {
    this.#fixed = fixed;
  }

  /** Sets the project of the session. Its settings file counts only if it is trusted. */
  enterProject(directory: string, trusted: boolean): void {
    this.#project = { KIMI_CODE_PROJECT: directory, KIMI_CODE_PROJECT_TRUSTED: trusted ? "1" : "0" };
  }

  /** Sets whether a user sees what a turn waits for. Without a screen, its time for retries is limited. */
  setScreen(hasScreen: boolean): void {
    this.#screen = { KIMI_CODE_SCREEN: hasScreen ? "1" : "0" };
  }

  /** Returns the overrides for `environment`; `given` outranks the fixed ones, but never project and screen. */
  variables(given: Variables = {}): Variables {
    return { ...this.#fixed, ...given, ...this.#project, ...this.#screen };
  }
}

export interface Host {
  piVersion?: string;
  platform: string;
  runtime: string;
  arch: string;
  machine: string;
  system: string;
  release: string;
  /** Headers that the program adds to every request to the service, but those that authorize it; `null` suppresses one of ours. */
  extraHeaders?: Record<string, string | null>;
}

/** Describes the program that this process runs. */
export function host(piVersion: string | undefined): Host {
  const bun = process.versions["bun"];
  return {
    ...(piVersion === undefined ? {} : { piVersion }),
    platform: process.platform,
    runtime: bun === undefined ? `node/${process.version}` : `bun/${bun}`,
    arch: process.arch,
    machine: tolerant(hostname),
    system: tolerant(type),
    release: tolerant(release),
  };
}

/** Returns an empty text where `read` throws, as it does on systems without a user database or host name, and in a folder that is gone. */
function tolerant(read: () => string): string {
  try {
    return read();
  } catch {
    return "";
  }
}
