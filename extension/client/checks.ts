/**
 * Checks values that a program passes in. A wrong value throws a `KimiRequestError` that names the member and says what was expected.
 *
 * The types say the same, but JavaScript programs have none, and values often come from elsewhere.
 */
import { type KimiErrorCode, kimiError } from "../errors.ts";

/** Throws if `value` is not acceptable; `name` is how the message calls it. */
export type Check = (value: unknown, name: string) => void;

/** What a check found. */
export class InvalidInput extends Error {
  readonly code: KimiErrorCode | undefined;

  constructor(message: string, code?: KimiErrorCode) {
    super(message);
    this.code = code;
  }
}

/** Runs checks and turns what they find into an error. Its code is `code`, unless the check says otherwise. */
export function checked(code: KimiErrorCode, run: () => void): void {
  try {
    run();
  } catch (error) {
    if (!(error instanceof InvalidInput)) throw error;
    throw kimiError({ code: error.code ?? code, message: error.message });
  }
}

/** The name of a member. */
export function memberName(name: string, member: string): string {
  return name === "" ? member : `${name}.${member}`;
}

/** Ends a check: `name` must be `expected`. */
export function invalid(name: string, expected: string, value: unknown): never {
  throw new InvalidInput(`${name} must be ${expected}, not ${described(value)}`);
}

/** Describes a value without its content, which may be long or secret. */
export function described(value: unknown): string {
  if (value === null || value === undefined || typeof value === "boolean") return String(value);
  if (typeof value === "number") return `the number ${value}`;
  if (typeof value === "string") return value === "" ? "an empty string" : "a string";
  if (typeof value === "function" || typeof value === "symbol") return `a ${typeof value}`;
  if (typeof value === "bigint") return "a BigInt";
  if (Array.isArray(value)) return "an array";
  const name = (Object.getPrototypeOf(value) as { constructor?: { name?: string } } | null)?.constructor?.name;
  return name === undefined || name === "" || name === "Object" ? "an object" : `an instance of ${name}`;
}

export const text: Check = (value, name) => {
  if (typeof value !== "string") invalid(name, "a string", value);
};

export const filledText: Check = (value, name) => {
  if (typeof value !== "string" || value.trim() === "") invalid(name, "a string that is not blank", value);
};

export const flag: Check = (value, name) => {
  if (typeof value !== "boolean") invalid(name, "true or false", value);
};

export const callback: Check = (value, name) => {
  if (typeof value !== "function") invalid(name, "a function", value);
};

export const anything: Check = () => {};

/** An abort signal of any realm. */
export const signal: Check = (value, name) => {
  const { aborted, addEventListener } = (value ?? {}) as Partial<AbortSignal>;
  if (typeof aborted !== "boolean" || typeof addEventListener !== "function") invalid(name, "an AbortSignal", value);
};

/** A number from `min` to `max`; whole unless `fractions` are allowed. */
export function number(min: number, max = Number.MAX_SAFE_INTEGER, fractions = false): Check {
  const kind = fractions ? "a number" : "a whole number";
  const range = max === Number.MAX_SAFE_INTEGER ? `${kind} from ${min} on` : `${kind} from ${min} to ${max}`;
  return (value, name) => {
    const fits = typeof value === "number" && value >= min && value <= max && (fractions || Number.isInteger(value));
    if (!fits) invalid(name, range, value);
  };
}

/** One of some words. */
export function oneOf(...words: string[]): Check {
  return (value, name) => {
    if (words.includes(value as string)) return;
    const seen = typeof value === "string" && value.length < 40 ? JSON.stringify(value) : described(value);
    throw new InvalidInput(`${name} must be one of ${words.join(", ")}, not ${seen}`);
  };
}

/** An object that JSON can hold. */
export const plainObject: Check = (value, name) => {
  if (typeof value !== "object" || value === null || Array.isArray(value)) invalid(name, "an object", value);
};

/** A value that JSON can hold. */
export const json: Check = (value, name) => {
  try {
    if (JSON.stringify(value) !== undefined) return;
  } catch (error) {
    const reason = (error instanceof Error ? error.message : String(error)).split("\n")[0];
    throw new InvalidInput(`${name} cannot be written as JSON: ${reason}`);
  }
  invalid(name, "a JSON value", value);
};

/** An object whose values all satisfy `check`. `undefined` counts as absent. */
export function record(check: Check): Check {
  return (value, name) => {
    plainObject(value, name);
    for (const [key, member] of Object.entries(value as object)) {
      if (member !== undefined) check(member, `${name}[${JSON.stringify(key)}]`);
    }
  };
}

/** `null`, or what satisfies `check`. */
export function nullable(check: Check): Check {
  return (value, name) => {
    if (value !== null) check(value, name);
  };
}

/** A list whose entries satisfy `check`. */
export function list(check: Check): Check {
  return (value, name) => {
    if (!Array.isArray(value)) invalid(name, "an array", value);
    for (const [index, entry] of value.entries()) check(entry, `${name}[${index}]`);
  };
}

/** An object with known members. Others are refused; `hints` says what to use instead of common ones. */
export function members(
  known: Record<string, Check>,
  required: string[] = [],
  hints: Record<string, string> = {},
): Check {
  return (value, name) => {
    plainObject(value, name);
    const at = (member: string): string => memberName(name, member);
    for (const member of required) {
      if ((value as Record<string, unknown>)[member] === undefined) throw new InvalidInput(`${at(member)} is missing`);
    }
    for (const [member, entry] of Object.entries(value as object)) {
      const check = Object.hasOwn(known, member) ? known[member] : undefined;
      if (check === undefined) throw new InvalidInput(unknownMember(at(member), member, Object.keys(known), hints));
      if (entry !== undefined) check(entry, at(member));
    }
  };
}

function unknownMember(name: string, member: string, known: string[], hints: Record<string, string>): string {
  const bare = (word: string): string => word.replace(/[_-]/g, "").toLowerCase();
  const hint = Object.hasOwn(hints, member) ? hints[member] : undefined;
  const similar = known.find((word) => bare(word) === bare(member));
  if (hint !== undefined) return `the option ${name} does not exist: ${hint}`;
  if (similar !== undefined) return `the option ${name} does not exist: use ${similar}`;
  return `the option ${name} does not exist (known: ${known.join(", ")})`;
}
