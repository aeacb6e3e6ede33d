// An approximate tokenizer: about four ASCII letters per token, one token per CJK character. Only consistency matters (equal
// text, equal count); the service's real one is unknown.

const CJK = "[\\u2e80-\\u9fff\\uac00-\\ud7af\\uf900-\\ufaff]";
const PATTERN = new RegExp(`${CJK}|\\s?[a-z]{1,6}|\\s?[A-Z][a-z]{0,5}|\\d{1,3}|\\s+|[^\\s\\w]{1,2}|\\S`, "gu");

/** Calls `each` with every token in order. */
export function eachToken(text: string, each: (token: string) => void): void {
  PATTERN.lastIndex = 0;
  for (let match = PATTERN.exec(text); match !== null; match = PATTERN.exec(text)) each(match[0]);
}

export function countTokens(text: string): number {
  let count = 0;
  eachToken(text, () => count++);
  return count;
}

/** Returns the longest prefix of `text` that has at most `limit` tokens. */
export function firstTokens(text: string, limit: number): string {
  let end = 0;
  let count = 0;
  eachToken(text, (token) => {
    if (count++ < limit) end += token.length;
  });
  return text.slice(0, end);
}
