/** The client without Pi: what `pi-provider-kimi-code/client` exports. */
export { Chat, type ChatEvent, type ChatNotice } from "./chat.ts";
export type { FileSource, KimiFiles, UploadedFile, UploadOptions } from "./files.ts";
export * from "./kimi.ts";
export { LOOP_LIMITS, type LoopDecision, LoopGuard, type LoopLimits } from "../loop-guard.ts";
export type { LoginCode, LoginOptions } from "./login.ts";
export type * from "./options.ts";
export type { RunOptions, RunResult, RunStep, RunTool } from "./run.ts";
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
} from "../errors.ts";
export type * from "../messages.ts";
export type { Priority } from "../priority.ts";
export type { SettingsOverrides } from "../overrides.ts";
export type {
  CompactionAdvice,
  HistoryBy,
  HistoryRow,
  Money,
  Profile,
  Quota,
  QuotaWindow,
  TokenWeight,
  UsageHistory,
  Wallet,
  WindowShares,
} from "../queries.ts";
export type {
  DatasourceAnswer,
  DatasourceRequest,
  FetchAnswer,
  ReturnedFile,
  SearchAnswer,
  SearchResult,
} from "../services.ts";
