/**
 * What the addon has to know about the world around it: environment variables as JavaScript sees them now (a change of
 * `process.env` counts from the next request on), and who is asking.
 */
import { readlinkSync } from "node:fs";
import { homedir, hostname, release, type } from "node:os";

/** The variables that concern the addon; everything else stays here. */
const RELEVANT =
  /^(HOME|TZ|KIMI_.*|PI_CACHE_RETENTION|PI_CODING_AGENT_DIR|NODE_EXTRA_CA_CERTS|SSL_CERT_FILE|SSL_CERT_DIR|(https?|all|no)_proxy)$/i;

export type Environment = Record<string, string>;

/** Variables as somebody hands them over. */
export type Variables = Record<string, string | undefined>;

/** A snapshot of the relevant variables; `overrides` (Pi's `options.env`, a client's own) outrank all others. */
export function environment(overrides: Variables = {}): Environment {
  const snapshot: Environment = { HOME: tolerant(homedir) };
  for (const source of [process.env, overrides]) {
    for (const [name, value] of Object.entries(source)) {
      if (value !== undefined && RELEVANT.test(name)) snapshot[name] = value;
    }
  }
  return snapshot;
}

/** What one extension knows beyond the process: two of them may live in one, each with sessions of its own. */
export class ExtensionEnvironment {
  readonly #decided: Environment;
  #project: Environment = {};

  /** `decided`: variables that the program around the extension gave it. */
  constructor(decided: Environment = {}) {
    this.#decided = decided;
  }

  /** The project that the session works in; its settings file counts only if Pi trusts it. */
  enterProject(directory: string, trusted: boolean): void {
    this.#project = { KIMI_CODE_PROJECT: directory, KIMI_CODE_PROJECT_TRUSTED: trusted ? "1" : "0" };
  }

  /** Overrides for `environment`. `given` outranks what was decided; the project is not for others to choose. */
  variables(given: Variables = {}): Variables {
    return { ...this.#decided, ...given, ...this.#project };
  }
}

let zone: string | undefined;

/**
 * Name of the person's time zone, `Europe/Berlin`. Only `Intl` knows it everywhere, but loading that takes tens of milliseconds,
 * and most systems say it in a variable or a link.
 */
export function timeZone(): string {
  const named = process.env["TZ"];
  if (named !== undefined && /^(UTC|[A-Z]\w+(\/[\w+-]+)+)$/.test(named)) return named;
  zone ??= (named ? undefined : linkedZone()) ?? Intl.DateTimeFormat().resolvedOptions().timeZone;
  return zone;
}

function linkedZone(): string | undefined {
  return /\/zoneinfo\/(?:posix\/)?(\w+(?:\/[\w+-]+)*)$/.exec(tolerant(() => readlinkSync("/etc/localtime")))?.[1];
}

export interface Host {
  piVersion?: string;
  platform: string;
  runtime: string;
  arch: string;
  machine: string;
  system: string;
  release: string;
}

/** The program we run in. */
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

/** Systems without a user database or a host name make these throw. */
function tolerant(read: () => string): string {
  try {
    return read();
  } catch {
    return "";
  }
}
