// Moonshot's subset of JSON Schema (MFJS), as the service applies it to `function.parameters` and `input_schema`
// (docs/protocol.md#tool-schema-subset). Texts are those of the service's error reports. The strictest source wins, even where
// the newest published validator has become milder: a client that passes here passes there.

import { isObject, type Json, type JsonObject } from "./json.ts";
import { resolveReference, terminates } from "./schema-references.ts";

export interface SchemaProblem {
  /** Dotted path, `root` for the schema itself. */
  path: string;
  message: string;
}

interface Limits {
  bytes: number;
  depth: number;
  properties: number;
  enumItems: number;
  branches: number;
}

const TYPES = new Set(["null", "boolean", "object", "array", "number", "integer", "string"]);
/** With one of these a node needs no `type` (docs/protocol.md#tool-schema-subset). */
const TYPE_SUBSTITUTES = ["anyOf", "oneOf", "allOf", "not", "if", "then", "else", "$ref"];
const ANNOTATIONS = new Set(["description", "title"]);

class Refusal extends Error {
  readonly problem: SchemaProblem;

  constructor(path: string, message: string) {
    super(message);
    this.problem = { path, message };
  }
}

/** Returns the first violation, or `undefined`. The size limit also picks the other limits. */
export function schemaProblem(schema: Json | undefined, limitBytes: number): SchemaProblem | undefined {
  const limits: Limits =
    limitBytes <= 15_000
      ? { bytes: limitBytes, depth: 10, properties: 1000, enumItems: 500, branches: 100 }
      : { bytes: limitBytes, depth: 30, properties: 3000, enumItems: 1000, branches: 500 };
  try {
    if (!isObject(schema)) throw new Refusal("root", "schema must be a dict");
    new Walk(schema, limits).root();
    return undefined;
  } catch (error) {
    if (error instanceof Refusal) return error.problem;
    throw error;
  }
}

class Walk {
  readonly #root: JsonObject;
  readonly #limits: Limits;
  #properties = 0;

  constructor(root: JsonObject, limits: Limits) {
    this.#root = root;
    this.#limits = limits;
  }

  root(): void {
    if (Buffer.byteLength(JSON.stringify(this.#root)) > this.#limits.bytes) {
      throw new Refusal("root", "schema exceeds maximum allowed size");
    }
    this.#node(this.#root, "root", 0);
    if (!terminates(this.#root)) {
      throw new Refusal("root", "detected infinite recursion without termination condition");
    }
  }

  #node(node: JsonObject, path: string, depth: number): void {
    if (depth > this.#limits.depth) {
      throw new Refusal(path, `schema depth exceeds maximum limit of ${this.#limits.depth}`);
    }
    this.#definitions(node, path);
    this.#type(node, path);
    if (node["$ref"] !== undefined) this.#reference(node, path);
    if (node["enum"] !== undefined) this.#enumeration(node, node["enum"], path);
    for (const key of ["description", "pattern"]) {
      if (node[key] !== undefined && typeof node[key] !== "string") {
        throw new Refusal(at(path, key), `${key} must be a string`);
      }
    }
    if (node["properties"] !== undefined) this.#propertiesOf(node["properties"], at(path, "properties"), depth + 1);
    if (node["required"] !== undefined) this.#required(node, node["required"], at(path, "required"));
    if (node["items"] !== undefined) {
      if (!isObject(node["items"])) throw new Refusal(at(path, "items"), "items must be an object");
      this.#typed(node["items"], at(path, "items"), depth);
    }
    if (node["additionalProperties"] !== undefined) {
      this.#additional(node["additionalProperties"], at(path, "additionalProperties"), depth);
    }
    if (node["anyOf"] !== undefined) this.#branches(node, node["anyOf"], path, depth);
  }

  /** A node in a place where the service requires a type. */
  #typed(node: JsonObject, path: string, depth: number): void {
    if (node["type"] === undefined && !TYPE_SUBSTITUTES.some((key) => node[key] !== undefined)) {
      throw new Refusal(path, "type is not defined");
    }
    this.#node(node, path, depth);
  }

  #definitions(node: JsonObject, path: string): void {
    const definitions = node["$defs"];
    if (definitions === undefined) return;
    if (node !== this.#root) throw new Refusal(path, "keyword $defs must be at root level");
    if (!isObject(definitions)) throw new Refusal("$defs", "$defs must be an object");
    for (const [name, definition] of Object.entries(definitions)) {
      if (name === "") throw new Refusal("$defs", "$defs property name cannot be empty");
      if (name.includes("/")) {
        throw new Refusal("$defs", `$defs property name '${name}' cannot contain '/' character`);
      }
      if (!isObject(definition)) throw new Refusal("$defs", `$defs schema must be object: ${name}`);
      this.#typed(definition, at("$defs", name), 0);
    }
  }

  #type(node: JsonObject, path: string): void {
    const type = node["type"];
    if (type === undefined) return;
    if (node["anyOf"] !== undefined) {
      const text = "when using anyOf, type should be defined in anyOf items instead of the parent schema";
      throw new Refusal(path, text);
    }
    if (node["$ref"] !== undefined) {
      const text = "when using $ref, type should be defined in the referenced schema instead of the parent schema";
      throw new Refusal(path, text);
    }
    if (Array.isArray(type)) {
      if (type.length === 0) throw new Refusal(path, "type array cannot be empty");
      if (!type.every((one) => typeof one === "string" && TYPES.has(one))) {
        throw new Refusal(path, "invalid type in type array");
      }
    } else if (typeof type !== "string") {
      throw new Refusal(path, "type must be string or array of strings");
    } else if (!TYPES.has(type)) {
      throw new Refusal(path, "invalid type");
    }
  }

  #reference(node: JsonObject, path: string): void {
    const reference = node["$ref"];
    const here = at(path, "$ref");
    if (typeof reference !== "string") throw new Refusal(here, "$ref must be a string");
    if (reference !== "#" && !reference.startsWith("#/$defs/")) {
      throw new Refusal(here, "references must start with #/$defs/");
    }
    if (reference === "#/$defs/") throw new Refusal(here, "definition name cannot be empty");
    if (reference !== "#" && this.#root["$defs"] === undefined) {
      throw new Refusal(here, `$defs not found for reference: ${reference}`);
    }
    if (resolveReference(this.#root, reference) === undefined)
      throw new Refusal("root", `invalid $ref path: ${reference}`);
    const siblings = Object.keys(node).filter((key) => key !== "$ref" && !(node === this.#root && key === "$defs"));
    if (siblings.length > 0) {
      throw new Refusal(path, `conflicting keywords found after $ref expansion: ${siblings.sort().join(", ")}`);
    }
  }

  #enumeration(node: JsonObject, values: Json, path: string): void {
    const here = at(path, "enum");
    if (!Array.isArray(values)) throw new Refusal(here, "enum must be an array");
    if (values.length === 0) throw new Refusal(here, "enum array cannot be empty");
    if (values.length > this.#limits.enumItems) {
      throw new Refusal(here, `enum array cannot have more than ${this.#limits.enumItems} items`);
    }
    if (node["type"] === undefined) throw new Refusal(path, "type is not defined");
    const types = Array.isArray(node["type"]) ? node["type"] : [node["type"]];
    if (types.length > 2 || (types.length === 2 && !types.includes("null"))) {
      throw new Refusal(
        path,
        "when type is array and enum is specified, currently only 2 types are supported, " +
          "one must be null, and the other can be string/integer/number/boolean",
      );
    }
    const misfit = values.find((value) => !types.some((type) => fits(value, type)));
    if (misfit !== undefined) {
      throw new Refusal(here, `enum value (${JSON.stringify(misfit)}) does not match any type in [${types.join(" ")}]`);
    }
  }

  #propertiesOf(properties: Json, path: string, depth: number): void {
    if (!isObject(properties)) throw new Refusal(path, "properties must be an object");
    const entries = Object.entries(properties);
    this.#properties += entries.length;
    if (this.#properties > this.#limits.properties) {
      throw new Refusal(
        path,
        `total number of properties keys(${this.#properties}) across all objects exceeds maximum limit of ` +
          String(this.#limits.properties),
      );
    }
    for (const [name, property] of entries) {
      if (!isObject(property)) throw new Refusal(path, `property schema for '${name}' must be an object`);
      this.#typed(property, at(path, name), depth);
    }
  }

  #required(node: JsonObject, required: Json, path: string): void {
    if (!Array.isArray(required)) throw new Refusal(path, "required must be an array");
    const known = isObject(node["properties"]) ? node["properties"] : {};
    for (const name of required) {
      if (typeof name !== "string") throw new Refusal(path, "items in required array must be strings");
      if (!Object.hasOwn(known, name)) {
        throw new Refusal(path, `required property '${name}' is not defined in properties`);
      }
    }
  }

  /** An empty schema is the default of this keyword and may be spelled out. */
  #additional(value: Json, path: string, depth: number): void {
    if (typeof value === "boolean") return;
    if (!isObject(value)) throw new Refusal(path, "additionalProperties must be a boolean or an object");
    if (Object.keys(value).length > 0) this.#typed(value, path, depth);
  }

  #branches(node: JsonObject, branches: Json, path: string, depth: number): void {
    const here = at(path, "anyOf");
    if (!Array.isArray(branches)) throw new Refusal(here, "anyOf must be an array");
    if (branches.length === 0 || branches.length > this.#limits.branches) {
      throw new Refusal(here, `anyOf must have 1-${this.#limits.branches} items`);
    }
    for (const [index, branch] of branches.entries()) {
      if (!isObject(branch)) throw new Refusal(here, "schema in anyOf must be an object");
      const twice = Object.keys(branch).filter((key) => !ANNOTATIONS.has(key) && node[key] !== undefined);
      if (twice.length > 0) {
        throw new Refusal(
          path,
          `conflicting keywords found in anyOf with parent: keywords (${twice.join(", ")}) are defined on the ` +
            "parent schema and inside anyOf",
        );
      }
      this.#typed(branch, at(path, `anyOf{${index}}`), depth);
    }
  }
}

function at(path: string, key: string): string {
  return path === "root" ? key : `${path}.${key}`;
}

function fits(value: Json, type: Json | undefined): boolean {
  if (type === "integer") return typeof value === "number" && Number.isInteger(value);
  if (type === "null") return value === null;
  return (type === "string" || type === "number" || type === "boolean") && typeof value === type;
}
