/** Derives the kind of a failure from what Pi shows: Pi has no codes, so the text must tell the kinds apart. */
import type { KimiErrorCode } from "../../index.ts";

/** Text in front of the reason. */
const BEFOREHAND =
  /^((Moonshot (search|fetch)|kimi_datasource) failed|Gave up after \d+ attempts, retries are out of budget|Kimi asks to wait .* is out of budget|quota exceeded|request_too_large): /;

/** The first match counts. */
const REASONS: [code: KimiErrorCode, words: RegExp][] = [
  ["cancelled", /^Request was aborted/],
  ["tls", /^connection error \(TLS\)/],
  ["network", /^connection error/],
  ["timeout", /^timeout: /],
  ["unauthorized", /^401 .*(key was refused|Sign in again)/],
  ["entitlement", /^40[23] .*(membership|subscription)/],
  ["client_refused", /^403 .*The service refused this client\./],
  ["quota_exhausted", /^4(03|29) .*(usage limit|token quota)|^[A-Z][\w -]+ is used up/],
  ["payload_too_large", /^413 /],
  ["rate_limited", /^429 /],
  ["overloaded", /^529 |is currently overloaded/],
  ["server", /^(408|409|50[0-4]|30[27]) /],
  ["truncated", /^Stream ended/],
  ["protocol", /unreadable frame|instead of a stream|is not JSON|is no object|is not one/],
];

/** Returns the code of this text, or the text itself if none matches. */
export function codeIn(text: string): string {
  const reason = text.replace(BEFOREHAND, "");
  return REASONS.find(([, words]) => words.test(reason))?.[0] ?? `“${text}”`;
}
