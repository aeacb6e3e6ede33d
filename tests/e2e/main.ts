/**
 * `scripts/test_e2e.sh [--live] [--skip uploads,cache] [--only chat]`
 *
 * Runs every suite in both dialects against a local simulator, or with `--live` against the service that the environment names, with
 * KIMI_API_KEY or the login of the official client. Exits with 1 if a suite fails, and with 2 if there is no credential.
 */
import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Kimi } from "../../index.ts";
import { buildAddon } from "../../npm/build.mjs";
import { UPLOAD_ALL } from "../bench/prompt-cache.ts";
import { startSimulator } from "../simulator/index.ts";
import { Machine } from "../support/account.ts";
import { Home } from "../support/pi.ts";
import { type Dialect, SUITES } from "./suites.ts";

const { values } = parseArgs({
  options: {
    live: { type: "boolean", default: false },
    only: { type: "string", default: process.env["KIMI_E2E_ONLY_CACHE"] === "1" ? "cache" : "" },
    skip: { type: "string", default: process.env["KIMI_E2E_SKIP"] ?? "" },
    model: { type: "string", default: "kimi-for-coding" },
  },
});

/** Variables that decide where requests go and how. */
const CONNECTION = [
  ...["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"].flatMap((name) => [name, name.toLowerCase()]),
  ...["NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "SSL_CERT_DIR"],
  ...["KIMI_CODE_BASE_URL", "KIMI_BASE_URL", "KIMI_CODE_OAUTH_HOST", "KIMI_OAUTH_HOST"],
];

/** Prints the variables above without user names and passwords in URLs. */
function showConnection(): void {
  for (const name of CONNECTION) {
    const value = process.env[name];
    if (value) console.log(`${name}=${value.replace(/(\/\/)?[^\s/@]*@/g, "$1***@")}`);
  }
}

function list(names: string): string[] {
  const all = names.split(",").filter(Boolean);
  const unknown = all.filter((name) => !(name in SUITES));
  if (unknown.length === 0) return all;
  console.error(`There is no suite ${unknown.join(", ")}; there are ${Object.keys(SUITES).join(", ")}.`);
  process.exit(2);
}

const skipped = list(values.skip);
const only = list(values.only);
const chosen = Object.entries(SUITES).filter(
  ([name]) => !skipped.includes(name) && (only.length === 0 || only.includes(name)),
);

showConnection();
buildAddon(false);
const simulator = values.live ? undefined : await startSimulator({ identityGate: "off" });
const home = simulator === undefined ? new Home() : new Machine(simulator);
let failures = 0;
try {
  const env = home instanceof Machine ? simulatedEnvironment(home) : liveEnvironment();
  const hasKey = Boolean(env["KIMI_API_KEY"]);
  const client = (dialect: Dialect, apiKey: string | undefined): Kimi => {
    const variables = Object.entries(home.env({ ...env, KIMI_API_KEY: apiKey }));
    return new Kimi({
      env: Object.fromEntries(variables.filter((entry): entry is [string, string] => entry[1] !== undefined)),
      settings: { ...UPLOAD_ALL, protocol: dialect },
    });
  };
  const login = client("openai", undefined).hasLogin();
  if (!hasKey && !login) {
    console.error("--live needs a credential: set KIMI_API_KEY to a Kimi Code key, or sign in with the kimi CLI.");
    process.exitCode = 2;
  } else {
    for (const [name, suite] of chosen) {
      for (const dialect of suite.once ? (["openai"] as const) : (["openai", "anthropic"] as const)) {
        const label = suite.once ? name : `${name}, ${dialect}`;
        if (suite.needsLogin && !login) {
          console.log(`skip ${label}: needs a login, not a key`);
          continue;
        }
        const kimi = client(dialect, suite.needsLogin ? undefined : env["KIMI_API_KEY"]);
        try {
          const result = await suite.run({ dialect, env, home, kimi, model: values.model });
          console.log(`ok   ${label}: ${result.trim().slice(0, 300)}`);
        } catch (error) {
          failures += 1;
          console.log(`FAIL ${label}: ${error instanceof Error ? error.message : String(error)}`);
        }
      }
    }
    console.log(failures === 0 ? "All suites passed." : `${failures} failed.`);
    if (failures > 0) process.exitCode = 1;
  }
} finally {
  home.remove();
  await simulator?.close();
}

/** The real service with this machine's credentials. The login stays in its place, so that a refresh reaches the official client. */
function liveEnvironment(): Record<string, string | undefined> {
  const kimiHome = process.env["KIMI_CODE_HOME"] ?? join(homedir(), ".kimi-code");
  const names = [...CONNECTION, "KIMI_API_KEY"];
  return {
    ...Object.fromEntries(names.map((name) => [name, process.env[name]?.trim() || undefined])),
    ...(existsSync(kimiHome) ? { KIMI_CODE_HOME: kimiHome } : {}),
  };
}

/** The simulator, with a key for chats and a login for Kimi's tools. */
function simulatedEnvironment(machine: Machine): Record<string, string | undefined> {
  machine.kimiLogin(machine.simulator.oauth.login(), 900);
  return machine.variables({ KIMI_API_KEY: machine.simulator.apiKey });
}
