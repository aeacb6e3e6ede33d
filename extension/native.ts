/**
 * The addon: what it offers, described for JavaScript. How it is found: loader.ts.
 */

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
  /** `text`: `[from, to]`, a range of the medium at position `index` that is needed. Answer with `sendMedium`. */
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
  /** Answers a Media op with this range of the base64 text or data URL. */
  sendMedium(index: number, from: number, data: string): void;
}

/** What the addon knows about an image or video; freed with this object. */
export interface MediumHandle {
  readonly __medium?: never;
}

export interface ServiceCall {
  /**
   * Runs the call, once: `[details, text]`. `details` is JSON, `{ok: true, …}` or
   * `{ok: false, code, message, status?, retryAfterMs?, requestId?}`. Never rejects for a failed request.
   */
  result(): Promise<[details: string, text: string]>;
  /** Aborts; the promise is fulfilled with the failure `cancelled`. Safe at any time. */
  cancel(): void;
}

export interface FileUpload {
  /** Makes memory for so many bytes, before any are appended. */
  prepare(size: number): Promise<void>;
  /** Adds bytes, which are copied. False: there are too many already. */
  append(bytes: Uint8Array): boolean;
  /** Runs the upload, once: `{id, url, …}` or `{error}` as JSON. Never rejects for a failed request. */
  result(): Promise<string>;
  /** `[sent, total]` in bytes; `total` is 0 until it is known. */
  progress(): [sent: number, total: number];
  /** Aborts; the promise is fulfilled with the failure `cancelled`. Safe at any time. */
  cancel(): void;
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
  /** Announces an image or video (base64 or data URL); small ones cross at once, others when a Media op asks for them. */
  medium(data: string): MediumHandle;
  /** Prepares a call of search, fetch or a data source; `request` is JSON, see services.ts. */
  serviceCall(request: string): ServiceCall;
  /** Prepares the upload of one file; `request` is JSON, see client/files.ts. */
  fileUpload(request: string): FileUpload;
  /** JSON list of Kimi's own tools: `{name, label, description, promptSnippet, promptGuidelines, parameters}`. */
  toolDefinitions(): string;
  /** JSON list of `[name, content]` of the data sources. */
  dataSources(): string;
}

/** `addon` or, in its place, why there is none. */
export type Loaded = { addon: Addon } | { addon?: undefined; problem: string };

export { loadAddon, platformName } from "./loader.ts";
