// `$ref` in tool schemas: its target, and whether resolving it terminates (docs/protocol.md#tool-schema-subset).

import { isObject, type Json, type JsonObject } from "./json.ts";

/** The schema itself for `#`, a definition at its root for `#/$defs/name`, otherwise nothing. */
export function resolveReference(root: JsonObject, reference: string): JsonObject | undefined {
  if (reference === "#") return root;
  const definitions = root["$defs"];
  const name = reference.slice("#/$defs/".length);
  const target = isObject(definitions) && Object.hasOwn(definitions, name) ? definitions[name] : undefined;
  return isObject(target) ? target : undefined;
}

/** Whether some finite document satisfies the schema: only required parts can make it infinite. */
export function terminates(root: JsonObject): boolean {
  const proven = new Set<JsonObject>();
  const open = new Set<JsonObject>();
  const part = (value: Json | undefined): boolean => {
    if (!isObject(value) || proven.has(value)) return true;
    if (open.has(value)) return false;
    open.add(value);
    const ends = node(value);
    open.delete(value);
    if (ends) proven.add(value);
    return ends;
  };
  const node = (schema: JsonObject): boolean => {
    const type = schema["type"];
    if (typeof schema["$ref"] === "string") return part(resolveReference(root, schema["$ref"]));
    if (Array.isArray(schema["anyOf"])) return schema["anyOf"].some(part);
    if (Array.isArray(type) && type.some((one) => one !== "object" && one !== "array")) return true;
    if (type === "array") return Number(schema["minItems"] ?? 0) < 1 || part(schema["items"]);
    const properties = isObject(schema["properties"]) ? schema["properties"] : {};
    const required = Array.isArray(schema["required"]) ? schema["required"] : [];
    return required.every((name) => typeof name !== "string" || part(properties[name]));
  };
  return part(root);
}
