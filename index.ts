/**
 * The package's main export: the client for Node programs, and the extension for programs that embed Pi.
 *
 * Pi itself loads extension/pi.ts, which does not include the client.
 */
export { default, KimiCode, type PiExtension } from "./extension/pi.ts";

export { Chat, type ChatEvent, type ChatNotice } from "./extension/client/chat.ts";
export {
  type Failure,
  KIMI_ERROR_CODES,
  KimiAbortError,
  KimiAddonError,
  KimiAuthError,
  KimiConnectionError,
  KimiError,
  kimiError,
  type KimiErrorCode,
  KimiLimitError,
  KimiRequestError,
  KimiServerError,
} from "./extension/errors.ts";
export * from "./extension/client/kimi.ts";
export type { FileSource, KimiFiles, UploadedFile, UploadOptions } from "./extension/client/files.ts";
export type { LoginCode, LoginOptions } from "./extension/client/login.ts";
export type * from "./extension/messages.ts";
export type * from "./extension/client/options.ts";
export type {
  DatasourceAnswer,
  DatasourceRequest,
  FetchAnswer,
  ReturnedFile,
  SearchAnswer,
  SearchResult,
} from "./extension/services.ts";
export type { Money, Profile, Quota, QuotaWindow, Wallet } from "./extension/queries.ts";
export type { Overrides, SettingsOverrides } from "./extension/overrides.ts";
