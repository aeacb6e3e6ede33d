/**
 * The addon: what it offers, and how it is found.
 *
 * The loader is written by hand because the generated one of napi-rs fails inside the Bun-compiled Pi and under pnpm: there a
 * bare `require("package")` does not resolve, a path into the package does (pi-extension §1.5). Loading never throws; the
 * caller gets either an addon of exactly our version or the reasons why there is none.
 */
import { existsSync, readFileSync, realpathSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** Codes of the ops that a turn hands over; `[code, index, text, extra]`. `index` is a position in the message's content. */
export const OpCode = {
  /** `text`: the finished body as JSON. Answer with `sendBody`. */
  Body: 0,
  /** `text`: `{status, headers}`; arrives before any content. */
  Response: 1,
  /** `text`: progress for a person, see notices.ts. */
  Notice: 2,
  /** `text`: JSON of one event of the service. */
  Raw: 3,
  /** The medium at position `index` is needed once more. Answer with `sendMedium`. */
  Media: 4,
  TextStart: 10,
  /** `text`: `{signature, redacted?}`. */
  ThinkingStart: 11,
  /** `text`: `{id, name}`, both final. */
  ToolStart: 12,
  TextDelta: 20,
  ThinkingDelta: 21,
  /** `text`: raw argument text; `extra`: what it changes in the value, see arguments.ts. */
  ToolDelta: 22,
  TextEnd: 30,
  ThinkingEnd: 31,
  /** `text`: empty if the argument text is valid JSON, else `{text}` (repaired) or `{error}`. */
  ToolEnd: 32,
  /** `text`: members to merge into the block. */
  Amend: 40,
  /** `text`: `{reason, usage, responseId?, responseModel?, rawStopReason?}`. Terminal. */
  Done: 100,
  /** `text`: `{code, message, usage?, status?, retryAfterMs?, traceId?}`. Terminal. */
  Failed: 101,
} as const;

export type Op = [code: number, index: number, text: string, extra?: string | null];

export interface TurnHandle {
  /** Aborts; the terminal op still arrives. Safe at any time. */
  cancel(): void;
  /** Answers a Body op with the JSON text to send. */
  sendBody(body: string): void;
  /** Answers a Media op with the base64 text or data URL. */
  sendMedium(index: number, data: string): void;
}

/** What the addon knows about an image or video; freed with this object. */
export interface MediumHandle {
  readonly __medium?: never;
}

export interface LoginHandle {
  /** Aborts the login; a `failed` step with code `cancelled` still arrives. */
  cancel(): void;
}

/** What the addon exports. Requests are JSON texts; an account request is `{environment, host, region?, baseUrl?}`. */
export interface Addon {
  version(): string;
  /** Writes diagnostics to this file from now on; credentials are redacted. */
  logTo(file: string): void;
  /** API root for this environment (JSON); throws with a readable message if it is unusable. */
  apiRoot(environment: string): string;
  /** JSON list of the models known without a network. */
  fallbackModels(): string;
  /** All settings with what was left out; see facts.ts for this and the following answers. Failures are `{error}`. */
  settings(request: string): string;
  /** JSON list of the settings that exist. */
  settingKeys(): string;
  /** Sets `path` in the `home` or `project` file to a JSON value; `null` takes it out. */
  changeSetting(request: string, scope: string, path: string, value: string): string;
  /** The models as last told by the service, else the fallback table. Only looks at files. */
  models(request: string): string;
  /** Asks the service for its models and keeps them for `models`. */
  refreshModels(request: string): Promise<string>;
  /** The quota, at most this old; 0 asks in any case. */
  usage(request: string, maxAgeMs: number): Promise<string>;
  /** The account. */
  profile(request: string): Promise<string>;
  /** `{ask, region?}`: whether a person has to choose a region for a login, else which one counts; or `{error}`. */
  loginOptions(request: string): string;
  /** API root for a credential that names `baseUrl`; throws if the environment insists on the other region. */
  baseOf(request: string): string;
  /** Notes that an access token belongs to a login, so that a refusal is healed. Static keys never are. */
  rememberLogin(access: string): void;
  /** `{credential}` (Pi's form) if another program's login can be used and Pi does not use it yet, else `{}` or `{error}`. */
  reuseLogin(request: string): Promise<string>;
  /** A refreshed `{credential}` or `{error}`. To be called while Pi holds its own lock, as it does around `refresh`. */
  renewLogin(request: string, credential: string): Promise<string>;
  /** `{access, baseUrl}` of another program's login, fresh; `{}` if there is none, or `{error}`. */
  ambientLogin(request: string): Promise<string>;
  /** Whether there is such a login. Only looks at files. */
  hasAmbientLogin(request: string): boolean;
  /** Device flow. Steps are JSON: `{type: "code" | "progress" | "done" | "failed", …}`, the last one `done` or `failed`. */
  startLogin(request: string, onStep: (step: string) => void): LoginHandle;
  /** For the exit of the process: waits for a refresh token that is on its way, releases all locks. */
  settle(): void;
  /** Starts a turn. Never throws for a failed request: the last op says what happened. */
  startTurn(request: string, context: string, media: MediumHandle[], onOps: (ops: Op[]) => void): TurnHandle;
  /** Takes an image or video (base64 or data URL); the one moment at which its bytes cross. */
  medium(data: string): MediumHandle;
}

/** `addon` or, in its place, why there is none. */
export type Loaded = { addon: Addon } | { addon?: undefined; problem: string };

/** Name of this machine's platform as our packages spell it, e.g. `linux-x64-gnu`. */
export function platformName(): string {
  const { platform, arch } = process;
  if (platform === "linux") return `linux-${arch}-${isMusl() ? "musl" : "gnu"}`;
  return `${platform}-${arch}`;
}

function isMusl(): boolean {
  try {
    const report: typeof process.report & { excludeNetwork?: boolean } = process.report;
    // The network part of the report may take seconds where name resolution hangs.
    report.excludeNetwork = true;
    const header = (report.getReport() as { header?: { glibcVersionRuntime?: string } }).header;
    return header?.glibcVersionRuntime === undefined;
  } catch {
    return existsSync(`/lib/ld-musl-${process.arch === "arm64" ? "aarch64" : "x86_64"}.so.1`);
  }
}

/** The directory of our package.json. Symlinks are resolved first: pnpm and `pi -e ./link` reach us through one. */
export function packageRoot(): string {
  let directory = dirname(realpathSync(fileURLToPath(import.meta.url)));
  while (!existsSync(join(directory, "package.json"))) {
    const parent = dirname(directory);
    if (parent === directory) break;
    directory = parent;
  }
  return directory;
}

/** Finds and loads the addon. */
export function loadAddon(): Loaded {
  const platform = platformName();
  const tried: string[] = [];
  try {
    const root = packageRoot();
    const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
    const require = createRequire(join(root, "index.ts"));
    const candidates = [
      process.env["KIMI_CODE_NATIVE"],
      join(root, "npm", platform, "kimi-code.node"),
      `pi-provider-kimi-code-${platform}/kimi-code.node`,
    ];
    for (const candidate of candidates) {
      if (!candidate) continue;
      try {
        const addon = require(candidate) as Addon;
        if (addon.version() === version) return { addon };
        tried.push(`${candidate} is version ${addon.version()}, but ${version} is needed`);
      } catch (error) {
        tried.push(`${candidate}: ${firstLine(error)}`);
      }
    }
  } catch (error) {
    tried.push(firstLine(error));
  }
  return {
    problem:
      `Kimi Code: the native part for ${platform} (package pi-provider-kimi-code-${platform}) could not be loaded, ` +
      "so Pi's built-in Kimi provider stays in place. Repair: run `pi remove npm:pi-provider-kimi-code` and " +
      "`pi install npm:pi-provider-kimi-code` (without --omit=optional), then restart Pi; in a checkout run `npm run build`." +
      `\nTried: ${tried.join("; ")}`,
  };
}

/** Every addon of this process; one per file, also across Pi's `/reload`. */
const LOADED = Symbol.for("pi-provider-kimi-code.addons");

/**
 * Lets the addon put things in order when the process exits: destructors do not run then, a refresh token may be on its way, and
 * a lock must not outlive us. One listener for the process, however often the extension is loaded again.
 */
export function settleOnExit(addon: Addon): void {
  const shared = process as typeof process & { [LOADED]?: Set<Addon> };
  if (shared[LOADED] === undefined) {
    const addons = (shared[LOADED] = new Set<Addon>());
    process.once("exit", () => addons.forEach((one) => one.settle()));
  }
  shared[LOADED].add(addon);
}

function firstLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split("\n")[0] ?? "";
}
