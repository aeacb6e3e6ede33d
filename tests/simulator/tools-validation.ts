// What the service checks about tools in both dialects: names, duplicates, built-ins and parameter schemas
// (docs/protocol.md#tool-schema-subset).

import { invalidRequest } from "./errors.ts";
import { asObject, asString, isObject, type Json, type JsonObject } from "./json.ts";
import { schemaProblem } from "./tool-schema.ts";
import type { Settings } from "./types.ts";

const NAME = /^[A-Za-z_][A-Za-z0-9_-]{0,255}$/;

export function checkOpenAITools(tools: Json | undefined, settings: Settings): void {
  if (tools === undefined || tools === null) return;
  if (!Array.isArray(tools)) throw invalidRequest("Invalid request: tools must be an array");
  const names = new Set<string>();
  for (const tool of tools) {
    if (!isObject(tool)) throw invalidRequest("Invalid request: a tool must be an object");
    const fn = asObject(tool["function"]) ?? {};
    const name = asString(fn["name"]) ?? "";
    if (tool["type"] === "builtin_function") {
      if (!name.startsWith("$")) throw invalidRequest("Invalid request: builtin_function name must start with $");
      checkDuplicate(name, names);
      continue;
    }
    if (tool["type"] !== "function") {
      throw invalidRequest(`Invalid request: unsupported tool type ${JSON.stringify(tool["type"] ?? null)}`);
    }
    checkTool(name, fn["parameters"], settings, names);
  }
}

export function checkAnthropicTools(tools: Json | undefined, settings: Settings): void {
  if (tools === undefined || tools === null) return;
  if (!Array.isArray(tools)) throw invalidRequest("Invalid request: tools must be an array");
  const names = new Set<string>();
  for (const tool of tools) {
    if (!isObject(tool)) throw invalidRequest("Invalid request: a tool must be an object");
    checkTool(asString(tool["name"]) ?? "", tool["input_schema"], settings, names);
  }
}

function checkTool(name: string, schema: Json | undefined, settings: Settings, names: Set<string>): void {
  if (!NAME.test(name)) {
    throw invalidRequest(
      "function name is invalid, must start with a letter and can contain letters, numbers, underscores, and dashes",
    );
  }
  checkDuplicate(name, names);
  if (settings.toolSchema === "off" || schema === undefined) return;
  const problem = schemaProblem(schema, settings.toolSchemaLimitBytes);
  if (problem !== undefined) {
    throw invalidRequest(
      "tools.function.parameters is not a valid moonshot flavored json schema, " +
        `details: <At path '${problem.path}': ${problem.message}>`,
    );
  }
  if ((schema as JsonObject)["type"] !== "object") {
    throw invalidRequest('Invalid request: tools.function.parameters.type is required and must be "object"');
  }
}

function checkDuplicate(name: string, names: Set<string>): void {
  if (names.has(name)) throw invalidRequest(`Invalid request: function name ${name} is duplicated`);
  names.add(name);
}
