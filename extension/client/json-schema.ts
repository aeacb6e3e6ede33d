/**
 * Checks a value against a JSON Schema, for answers and arguments that a model wrote.
 *
 * Knows the keywords that constrain values. References inside of the schema are followed. What it cannot read is ignored, like other
 * unknown keywords: docs/programmatic-usage.md#structured-output lists what is not checked.
 */

type Schema = boolean | { [keyword: string]: unknown };

/** Deepest nesting that is checked; a schema that refers to itself without consuming the value ends here. */
const MAX_DEPTH = 200;

/** Returns the first difference between `value` and `schema`, or undefined. */
export function schemaProblem(value: unknown, schema: object): string | undefined {
  return check(value, schema as Schema, "", { root: schema, seen: new WeakMap() }, 0);
}

/** What the checks of one value share. */
interface Checked {
  root: object;
  /** Results for objects and lists, by schema: alternatives ask for the same parts again and again. */
  seen: WeakMap<object, Map<object, string | undefined>>;
}

const TYPES = new Map<unknown, (value: unknown) => boolean>([
  ["null", (value) => value === null],
  ["boolean", (value) => typeof value === "boolean"],
  ["string", (value) => typeof value === "string"],
  ["number", (value) => typeof value === "number"],
  ["integer", (value) => Number.isInteger(value)],
  ["array", (value) => Array.isArray(value)],
  ["object", (value) => typeof value === "object" && value !== null && !Array.isArray(value)],
]);

function check(value: unknown, schema: Schema, at: string, checked: Checked, depth: number): string | undefined {
  if (typeof value !== "object" || value === null || typeof schema !== "object" || schema === null) {
    return problemOf(value, schema, at, checked, depth);
  }
  const known = checked.seen.get(value) ?? new Map<object, string | undefined>();
  checked.seen.set(value, known);
  if (known.has(schema)) return known.get(schema);
  const problem = problemOf(value, schema, at, checked, depth);
  known.set(schema, problem);
  return problem;
}

function problemOf(value: unknown, schema: Schema, at: string, checked: Checked, depth: number): string | undefined {
  const where = at === "" ? "the value" : at;
  if (typeof schema === "boolean") return schema ? undefined : `${where} is not allowed`;
  // A reference may lead to anything.
  if (typeof schema !== "object" || schema === null) return undefined;
  if (depth > MAX_DEPTH) return undefined;
  const inner = (part: unknown, of: unknown = value, path = at): string | undefined =>
    check(of, part as Schema, path, checked, depth + 1);

  if (typeof schema["$ref"] === "string") {
    const target = resolve(schema["$ref"], checked.root);
    const problem = target === undefined ? undefined : inner(target);
    if (problem !== undefined) return problem;
  }
  const types = schema["type"] === undefined ? [] : [schema["type"]].flat();
  if (types.length > 0 && !types.some((type) => TYPES.get(type)?.(value) ?? true)) {
    return `${where} must be ${types.join(" or ")}`;
  }
  if (schema["nullable"] === true && value === null) return undefined;
  if (Array.isArray(schema["enum"]) && !schema["enum"].some((one) => equal(one, value))) {
    return `${where} must be one of ${shown(schema["enum"]).slice(0, 200)}`;
  }
  if (schema["const"] !== undefined && !equal(schema["const"], value)) {
    return `${where} must be ${shown(schema["const"])}`;
  }
  for (const part of list(schema["allOf"])) {
    const problem = inner(part);
    if (problem !== undefined) return problem;
  }
  for (const keyword of ["anyOf", "oneOf"]) {
    const parts = list(schema[keyword]);
    const enough = keyword === "anyOf" ? 1 : 2;
    let fitting = 0;
    for (const part of parts) if (fitting < enough && inner(part) === undefined) fitting += 1;
    if (parts.length > 0 && (fitting === 0 || (keyword === "oneOf" && fitting > 1))) {
      return parts.length === 1 ? inner(parts[0]) : `${where} matches ${fitting} of the alternatives`;
    }
  }
  if (schema["not"] !== undefined && inner(schema["not"]) === undefined) return `${where} is excluded`;
  if (schema["if"] !== undefined) {
    const branch = schema[inner(schema["if"]) === undefined ? "then" : "else"];
    const problem = branch === undefined ? undefined : inner(branch);
    if (problem !== undefined) return problem;
  }
  if (typeof value === "number") return numberProblem(value, schema, where);
  if (typeof value === "string") return textProblem(value, schema, where);
  if (Array.isArray(value)) return listProblem(value, schema, at, where, inner);
  if (typeof value === "object" && value !== null) return objectProblem(value, schema, at, where, inner);
  return undefined;
}

type Inner = (part: unknown, of?: unknown, path?: string) => string | undefined;

function numberProblem(value: number, schema: Record<string, unknown>, where: string): string | undefined {
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf } = schema as Record<string, number>;
  if (minimum !== undefined && value < minimum) return `${where} must be at least ${minimum}`;
  if (maximum !== undefined && value > maximum) return `${where} must be at most ${maximum}`;
  if (exclusiveMinimum !== undefined && value <= exclusiveMinimum) return `${where} must be above ${exclusiveMinimum}`;
  if (exclusiveMaximum !== undefined && value >= exclusiveMaximum) return `${where} must be below ${exclusiveMaximum}`;
  // Fractions such as 0.1 are not exact, the less so the larger the number.
  const ratio = multipleOf === undefined ? 0 : value / multipleOf;
  return Math.abs(ratio - Math.round(ratio)) > Math.max(1e-9, Math.abs(ratio) * 4e-15)
    ? `${where} must be a multiple of ${multipleOf}`
    : undefined;
}

function textProblem(value: string, schema: Record<string, unknown>, where: string): string | undefined {
  const { minLength = 0, maxLength = Infinity } = schema as Record<string, number>;
  const length = [...value].length;
  if (length < minLength || length > maxLength) {
    return `${where} must have ${minLength} to ${maxLength === Infinity ? "any number of" : maxLength} characters`;
  }
  const pattern = schema["pattern"];
  const fits = typeof pattern === "string" ? (regExp(pattern)?.test(value) ?? true) : true;
  return fits ? undefined : `${where} must match ${String(pattern)}`;
}

/** Returns the expression of a pattern; `undefined` for one of another dialect, such as `(?i)x`. */
function regExp(pattern: string): RegExp | undefined {
  try {
    return new RegExp(pattern, "u");
  } catch {
    return undefined;
  }
}

function listProblem(
  value: unknown[],
  schema: Record<string, unknown>,
  at: string,
  where: string,
  inner: Inner,
): string | undefined {
  const { minItems = 0, maxItems = Infinity } = schema as Record<string, number>;
  if (value.length < minItems) return `${where} must have at least ${minItems} items`;
  if (value.length > maxItems) return `${where} must have at most ${maxItems} items`;
  if (schema["uniqueItems"] === true && hasDuplicates(value)) {
    return `${where} must have different items`;
  }
  const { contains, minContains = 1, maxContains = Infinity } = schema as Record<string, number>;
  if (contains !== undefined) {
    const found = value.filter((item) => inner(contains, item) === undefined).length;
    if (found < minContains || found > maxContains) {
      const wanted = found < minContains ? `at least ${minContains}` : `at most ${maxContains}`;
      return `${where} must have ${wanted} items that follow "contains"`;
    }
  }
  const first = list(schema["prefixItems"]);
  for (const [index, item] of value.entries()) {
    const part = index < first.length ? first[index] : schema["items"];
    const problem = part === undefined ? undefined : inner(part, item, `${at}[${index}]`);
    if (problem !== undefined) return problem;
  }
  return undefined;
}

function objectProblem(
  value: object,
  schema: Record<string, unknown>,
  at: string,
  where: string,
  inner: Inner,
): string | undefined {
  const names = Object.keys(value);
  const { minProperties = 0, maxProperties = Infinity } = schema as Record<string, number>;
  if (names.length < minProperties) return `${where} must have at least ${minProperties} members`;
  if (names.length > maxProperties) return `${where} must have at most ${maxProperties} members`;
  const needed = Object.entries(members(schema["dependentRequired"])).filter(([name]) => Object.hasOwn(value, name));
  for (const name of [schema["required"], ...needed.map(([, others]) => others)].flatMap(list)) {
    if (!Object.hasOwn(value, name as string)) return `${where} has no ${String(name)}`;
  }
  for (const [name, part] of Object.entries(members(schema["dependentSchemas"]))) {
    const problem = Object.hasOwn(value, name) ? inner(part) : undefined;
    if (problem !== undefined) return problem;
  }
  const known = members(schema["properties"]);
  const patterns = Object.entries(members(schema["patternProperties"])).map(
    ([pattern, part]) => [regExp(pattern), part] as const,
  );
  // A member may be meant by a pattern that cannot be read.
  const others = patterns.every(([pattern]) => pattern !== undefined) ? schema["additionalProperties"] : undefined;
  for (const [name, member] of Object.entries(value)) {
    const nameProblem =
      schema["propertyNames"] === undefined ? undefined : inner(schema["propertyNames"], name, `the name ${name}`);
    if (nameProblem !== undefined) return nameProblem;
    const path = at === "" ? name : `${at}.${name}`;
    const parts = [
      ...(Object.hasOwn(known, name) ? [known[name]] : []),
      ...patterns.filter(([pattern]) => pattern?.test(name)).map(([, part]) => part),
    ];
    if (parts.length === 0 && others !== undefined) parts.push(others);
    for (const part of parts) {
      const problem = inner(part, member, path);
      if (problem !== undefined) return problem;
    }
  }
  return undefined;
}

function hasDuplicates(items: unknown[]): boolean {
  const isCompound = (item: unknown): boolean => typeof item === "object" && item !== null;
  const simple = items.filter((item) => !isCompound(item));
  if (new Set(simple).size < simple.length) return true;
  const compound = items.filter(isCompound);
  return compound.some((one, index) => compound.slice(0, index).some((two) => equal(one, two)));
}

/** Writes a value for a message; a schema may hold what JSON does not have. */
function shown(value: unknown): string {
  try {
    return JSON.stringify(value);
  } catch {
    return String(value);
  }
}

/** Follows `#/$defs/name`. */
function resolve(reference: string, root: object): unknown {
  if (reference !== "#" && !reference.startsWith("#/")) return undefined;
  let target: unknown = root;
  for (const step of reference.split("/").slice(1)) {
    const name = decoded(step).replaceAll("~1", "/").replaceAll("~0", "~");
    target =
      typeof target === "object" && target !== null && Object.hasOwn(target, name) ? target[name as never] : undefined;
  }
  return target;
}

/** Decodes `%20`; a percent sign that stands for itself stays. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Returns the members of an object; of anything else, none. */
function members(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}

function list(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

function equal(one: unknown, two: unknown): boolean {
  if (typeof one !== "object" || typeof two !== "object" || one === null || two === null) return one === two;
  const names = Object.keys(one);
  return (
    Array.isArray(one) === Array.isArray(two) &&
    names.length === Object.keys(two).length &&
    names.every((name) => Object.hasOwn(two, name) && equal((one as never)[name], (two as never)[name]))
  );
}
