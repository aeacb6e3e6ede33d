// A small value that follows the schema of `response_format` (docs/protocol.md#chat-body), for the built-in agent.

import { resolveReference } from "./schema-references.ts";
import { asArray, asObject, asString, isObject, type Json, type JsonObject } from "./json.ts";

/** Returns a value with the required members of `root`, whose texts are `text`, as long as they may be. Patterns are not followed. */
export function sampleObject(root: JsonObject, text: string): Json {
  return sample(root, root, text, new Set()) ?? null;
}

/** `undefined` where the schema refers to itself without an end; another branch then has one. */
function sample(value: Json | undefined, root: JsonObject, text: string, open: Set<JsonObject>): Json | undefined {
  if (!isObject(value)) return text;
  if (open.has(value)) return undefined;
  const within = new Set([...open, value]);
  const part = (schema: Json | undefined): Json | undefined => sample(schema, root, text, within);
  const reference = asString(value["$ref"]);
  if (reference !== undefined) return part(resolveReference(root, reference));
  if (Array.isArray(value["anyOf"])) return value["anyOf"].map(part).find((one) => one !== undefined);
  if (Array.isArray(value["enum"])) return value["enum"][0];
  switch ([value["type"]].flat()[0]) {
    case "object":
      return sampleMembers(value, part);
    case "array": {
      const items = Array.from({ length: Number(value["minItems"] ?? 0) }, () => part(value["items"]));
      return items.every((item) => item !== undefined) ? items : undefined;
    }
    case "integer":
    case "number":
      return Number(value["minimum"] ?? value["maximum"] ?? 1);
    case "boolean":
      return true;
    case "null":
      return null;
    default:
      return ofLength(text, Number(value["minLength"] ?? 0), Number(value["maxLength"] ?? Number.POSITIVE_INFINITY));
  }
}

/** Cuts or repeats a text until it has between `least` and `most` characters. */
function ofLength(text: string, least: number, most: number): string {
  const characters = [...text];
  const length = Math.max(least, Math.min(characters.length, most));
  return Array.from({ length }, (_, at) => characters[at % characters.length] ?? ".").join("");
}

function sampleMembers(schema: JsonObject, part: (schema: Json | undefined) => Json | undefined): Json | undefined {
  const properties = asObject(schema["properties"]) ?? {};
  const members: JsonObject = {};
  for (const name of asArray(schema["required"])) {
    if (typeof name !== "string") continue;
    const member = part(properties[name]);
    if (member === undefined) return undefined;
    members[name] = member;
  }
  return members;
}
