/**
 * What the addon has to know about the world around it: environment variables as JavaScript sees them now (a change of
 * `process.env` counts from the next request on), and who is asking.
 */
import { homedir, hostname, release, type } from "node:os";

/** The variables that concern the addon; everything else stays here. */
const RELEVANT =
  /^(HOME|KIMI_.*|PI_CACHE_RETENTION|PI_CODING_AGENT_DIR|NODE_EXTRA_CA_CERTS|SSL_CERT_FILE|SSL_CERT_DIR|(https?|all|no)_proxy)$/i;

export type Environment = Record<string, string>;

/** What an extension was given by the program around it. */
let decided: Environment = {};

/** Members of the snapshot that are no variables of the process: they belong to this session of Pi. */
let session: Environment = { TZ: Intl.DateTimeFormat().resolvedOptions().timeZone };

/** The project that the session works in; its settings file counts only if Pi trusts it. */
export function enterProject(directory: string, trusted: boolean): void {
  session = { ...session, KIMI_CODE_PROJECT: directory, KIMI_CODE_PROJECT_TRUSTED: trusted ? "1" : "0" };
}

/** Variables given to the factory; they outrank the process environment. */
export function overrideEnvironment(variables: Environment): void {
  decided = variables;
}

/** A snapshot of the relevant variables; `overrides` (Pi's `options.env`, a client's own) outrank all others. */
export function environment(overrides?: Record<string, string | undefined>): Environment {
  const snapshot: Environment = { HOME: tolerant(homedir) };
  for (const source of [process.env, decided, overrides ?? {}]) {
    for (const [name, value] of Object.entries(source)) {
      if (value !== undefined && RELEVANT.test(name)) snapshot[name] = value;
    }
  }
  return { ...snapshot, ...session };
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
