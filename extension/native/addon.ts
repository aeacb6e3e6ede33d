/**
 * Declares what the addon exports. loader.ts finds it, call.ts reads its answers.
 */

/** Codes of the ops of a turn, `[code, index, text, extra]`. `index` is a position in the message's content. */
export const OpCode = {
  /** `text`: the finished body as JSON. Answer with `sendBody`. */
  Body: 0,
  /** `text`: `{status, headers}`; arrives before any content. */
  Response: 1,
  /** `text`: a notice for the user, see turn/notices.ts. */
  Notice: 2,
  /** `text`: JSON of events of the service, separated by U+001E. */
  Raw: 3,
  /** `text`: `[from, to]`, the requested range of the media item at position `index`. Answer with `sendMedia`. */
  Media: 4,
  TextStart: 10,
  /** `text`: `{signature, redacted?}`. */
  ThinkingStart: 11,
  /** `text`: `{id, name}`, both final. */
  ToolStart: 12,
  TextDelta: 20,
  ThinkingDelta: 21,
  /** `text`: raw argument text; `extra`: what it changes in the value, see turn/tool-arguments.ts. */
  ToolDelta: 22,
  TextEnd: 30,
  ThinkingEnd: 31,
  /** `text`: empty if the argument text is valid JSON, else `{text}` (repaired) or `{error}`. */
  ToolEnd: 32,
  /** `text`: members to merge into the block. */
  Amend: 40,
  /** `text`: `{reason, usage, responseId?, responseModel?, rawStopReason?}`. Terminal. */
  Done: 100,
  /** `text`: `{code, message, usage?, status?, retryAfterMs?, resetsAt?, traceId?}`. Terminal. */
  Failed: 101,
} as const;

export type Op = [code: number, index: number, text: string, extra?: string | null];

export interface TurnHandle {
  /** Aborts. The terminal op still arrives. Safe at any time. */
  cancel(): void;
  /** Stops or resumes the ops of this turn. The addon stops reading from the service once 1 MiB is waiting. */
  pause(paused: boolean): void;
  /** Answers a Body op with the JSON text to send. */
  sendBody(body: string): void;
  /** Answers a question that a notice asked: `stop` or `wait`. */
  sendAnswer(answer: string): void;
  /** Answers a Media op with this range of the base64 text or data URL. */
  sendMedia(index: number, from: number, data: string): void;
}

/** A conversation as JSON text. Long texts lie beside it. */
export interface EncodedContext {
  /** A string `<mark><number>` in the JSON stands for a text. */
  mark: string;
  /** Length of each text in UTF-16 units; negative where V8 may keep a unit in two bytes. */
  lengths: Int32Array;
  /** The long texts by number, then the JSON. */
  texts: string[];
}

/** Holds what the addon knows about an image or video, until this object is collected. */
export interface MediaHandle {
  readonly __media?: never;
}

export interface ServiceCall {
  /**
   * Runs the call, once: `[details, text]`. `details` is JSON, `{…}` or `{error}`. Never rejects for a failed request.
   */
  result(): Promise<[details: string, text: string]>;
  /** Aborts. The promise is fulfilled with the failure `cancelled`. Safe at any time. */
  cancel(): void;
}

export interface FileUpload {
  /** Reserves memory, before the first bytes are appended. */
  prepare(size: number): Promise<void>;
  /** Copies bytes to the end. Returns false if the file is too large. */
  append(bytes: Uint8Array): boolean;
  /** Runs the upload, once: `{id, url, …}` or `{error}` as JSON. Never rejects for a failed request. */
  result(): Promise<string>;
  /** `[sent, total]` in bytes; `total` is 0 until it is known. */
  progress(): [sent: number, total: number];
  /** "uploading 12.3 MB of 60.2 MB (20 %, 3.1 MB/s)"; null until the upload has begun. */
  progressText(): string | null;
  /** Aborts. The promise is fulfilled with the failure `cancelled`. Safe at any time. */
  cancel(): void;
}

export interface LoginHandle {
  /** Aborts. A `failed` step with code `cancelled` still arrives. */
  cancel(): void;
}

/** The exports of the addon. Requests are JSON texts; an account request is `{environment, host, region?, baseUrl?}`. */
export interface Addon {
  /** Makes advice in error messages speak to users of Pi, as `/login` does, for the rest of the process. */
  adviseUsersOfPi(): void;
  version(): string;
  /** Returns the op codes by name as JSON. A test compares them with `OpCode`. */
  opCodes(): string;
  /** Writes the log to this file from now on. Credentials are redacted. */
  logTo(file: string): void;
  /** Returns the built-in list of models as JSON. */
  fallbackModels(): string;
  /** Returns settings and problems; see queries.ts for this and the following answers. Failures are `{error}`. */
  settings(request: string): string;
  /** Returns the list of settings as JSON. */
  settingKeys(): string;
  /** Returns the path under which a setting counts, `{path}`. */
  settingPath(path: string): string;
  /** Sets `path` in the `home` or `project` file to a value as users type it; `default` removes it. */
  changeSetting(request: string, scope: string, path: string, text: string): string;
  /** Returns the stored list of models, or the built-in one. Only reads files. */
  models(request: string): string;
  /** Asks the service for its models and stores them for `models`. */
  refreshModels(request: string): Promise<string>;
  /** Asks only where no list is stored, or an old one, and waits at most this long where there is none. */
  ensureModels(request: string, maxWaitMs: number): Promise<string>;
  /** Returns the quota, at most `maxAgeMs` old; 0 always asks the service. */
  usage(request: string, maxAgeMs: number): Promise<string>;
  /** Returns what the plan was spent on; `history` is JSON, `{history, by?, session?}`. */
  usageHistory(request: string, history: string): Promise<string>;
  /** Returns whether requests wait for a quota window. */
  quotaState(request: string): Promise<string>;
  /** Applies `wait`, `stop` or `resume` to the window that requests wait for, and returns the state then. */
  chooseQuota(request: string, choice: string): Promise<string>;
  /** Opens a connection to the service, unless the settings forbid it: `{}` or `{error}`. */
  preconnect(request: string): Promise<string>;
  /** Returns the requests and the newest prompt of a session; `question` is JSON, `{session, last?}`. */
  promptCache(request: string, question: string): Promise<string>;
  /** Returns `{expired}`, what the session's next request reads again; `question` is JSON, `{session, model}`. */
  expiredCache(request: string, question: string): Promise<string>;
  /** Returns the account. */
  profile(request: string): Promise<string>;
  /** Runs the doctor, within 2.3 s: `{checks}`, see doctor/examine.ts. `live` sends a request to a model as well, which may take 60 s. */
  doctor(request: string, live: boolean): Promise<string>;
  /** Returns `{ask, region?}`, whether the user has to choose a region, else which one counts; or `{error}`. */
  loginOptions(request: string): string;
  /** Returns the API root for a credential with this `baseUrl`. Throws if the settings name the other region. */
  baseOf(request: string): string;
  /** Registers an access token as part of a login, so that a 401 leads to a refresh. API keys are not refreshed. */
  registerLogin(access: string): void;
  /** Returns `{credential}` (Pi's form) if the CLI's login is usable and Pi does not use it yet, else `{}` or `{error}`. */
  reuseLogin(request: string): Promise<string>;
  /** Returns a refreshed `{credential}` or `{error}`. Call it while Pi holds its lock, as it does around `refresh`. */
  renewLogin(request: string, credential: string): Promise<string>;
  /** Returns a fresh `{access, baseUrl}` of the CLI's login, `{}` if there is none, or `{error}`. */
  cliLogin(request: string): Promise<string>;
  /** Removes the CLI's login from this machine: `{signedOut}`, whether there was one, or `{error}`. */
  logout(request: string): Promise<string>;
  /** Returns whether the CLI has a login. Only reads files. */
  hasCliLogin(request: string): boolean;
  /** Returns whether there is a login, Pi's or the CLI's, that requests without a key can use. Only reads files. */
  hasLogin(request: string): boolean;
  /** Starts the device flow. Steps are JSON, `{type: "code" | "progress" | "done" | "failed", …}`; the last two end it. */
  startLogin(request: string, onStep: (step: string) => void): LoginHandle;
  /** Waits for a token refresh in progress and releases all locks. Called when the process exits. */
  shutdown(): void;
  /** Starts a turn. Never throws for a failed request; the last op reports it. */
  startTurn(request: string, context: EncodedContext, media: MediaHandle[], onOps: (ops: Op[]) => void): TurnHandle;
  /** Registers an image or video (base64 or data URL). Large ones are read later, when a Media op requests them. */
  media(data: string): MediaHandle;
  /** Prepares a call of search, fetch or a data source; `request` is JSON, see services.ts. */
  serviceCall(request: string): ServiceCall;
  /** Prepares the upload of one file; `request` is JSON, see client/files.ts. */
  fileUpload(request: string): FileUpload;
  /**
   * Prepares the upload of an image or video on disk for a session. `request` is that of `fileUpload` with `path` and, besides,
   * `project` (nothing outside of it is read but `allowed`), `allowed` (paths that the user wrote, never those of a tool or
   * model) and `model` (a video is refused if the service refused videos for that model). The result is
   * `{text, marker, details, kind, mimeType, bytes, lengthMs, known}` or `{error}`: `text` for a tool result with `details`,
   * `marker` for the text of a user's message. Both become media in requests to Kimi, and are text for everybody else.
   */
  prepareMedia(request: string): FileUpload;
  /** Returns the tools as a JSON list; see `ToolTexts` in services.ts. */
  toolDefinitions(): string;
  /** Returns the data sources as a JSON list of `[name, content]`. */
  dataSources(): string;
}

/** The addon, or the reason why it could not be loaded. */
export type Loaded = { addon: Addon } | { addon?: undefined; problem: string; repair: string };
