// Moonshot's JSON Schema subset, rule by rule (docs/protocol.md#tool-schema-subset).

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Json, JsonObject } from "./json.ts";
import { schemaProblem } from "./tool-schema.ts";

const LIMIT = 15_000;
const object = (properties: JsonObject, rest: JsonObject = {}): JsonObject => ({ type: "object", properties, ...rest });
const string = { type: "string" };

function nested(levels: number): JsonObject {
  return levels === 0 ? string : object({ deeper: nested(levels - 1) });
}

describe("simulator schemas: refused", () => {
  const cases: [name: string, schema: Json, path: string, message: string][] = [
    ["boolean root", true, "root", "schema must be a dict"],
    ["untyped property", object({ a: { description: "x" } }), "properties.a", "type is not defined"],
    ["empty property", object({ a: {} }), "properties.a", "type is not defined"],
    ["enum without a type", object({ a: { enum: ["x"] } }), "properties.a", "type is not defined"],
    [
      "const without a type",
      object({ a: { type: "array", items: { const: 1 } } }),
      "properties.a.items",
      "type is not defined",
    ],
    [
      "untyped branch",
      object({ a: { anyOf: [string, { description: "x" }] } }),
      "properties.a.anyOf{1}",
      "type is not defined",
    ],
    [
      "untyped additional properties",
      object({}, { additionalProperties: { description: "x" } }),
      "additionalProperties",
      "type is not defined",
    ],
    ["untyped definition", object({}, { $defs: { D: { description: "x" } } }), "$defs.D", "type is not defined"],
    [
      "boolean property",
      object({ tasks: { type: "array", items: object({ outputSchema: true }) } }),
      "properties.tasks.items.properties",
      "property schema for 'outputSchema' must be an object",
    ],
    ["boolean items", object({ a: { type: "array", items: true } }), "properties.a.items", "items must be an object"],
    [
      "items as a tuple",
      object({ a: { type: "array", items: [string] } }),
      "properties.a.items",
      "items must be an object",
    ],
    ["boolean branch", object({ a: { anyOf: [true] } }), "properties.a.anyOf", "schema in anyOf must be an object"],
    [
      "type beside anyOf",
      object({ a: { type: "string", anyOf: [{ minLength: 1 }] } }),
      "properties.a",
      "when using anyOf, type should be defined in anyOf items instead of the parent schema",
    ],
    [
      "type beside anyOf at the root",
      { type: "object", anyOf: [object({})] },
      "root",
      "when using anyOf, type should be defined in anyOf items instead of the parent schema",
    ],
    [
      "keyword on both sides of anyOf",
      object({ a: { properties: {}, anyOf: [object({})] } }),
      "properties.a",
      "conflicting keywords found in anyOf with parent: keywords (properties) are defined on the parent schema and " +
        "inside anyOf",
    ],
    [
      "type beside $ref",
      object({ a: { type: "string", $ref: "#/$defs/D" } }, { $defs: { D: string } }),
      "properties.a",
      "when using $ref, type should be defined in the referenced schema instead of the parent schema",
    ],
    [
      "description beside $ref",
      object({ a: { description: "x", $ref: "#/$defs/D" } }, { $defs: { D: string } }),
      "properties.a",
      "conflicting keywords found after $ref expansion: description",
    ],
    [
      "$ref into draft-07 definitions",
      object({ a: { $ref: "#/definitions/D" } }, { definitions: { D: string } }),
      "properties.a.$ref",
      "references must start with #/$defs/",
    ],
    [
      "$ref to elsewhere",
      object({ a: { $ref: "https://example.com/s.json" } }),
      "properties.a.$ref",
      "references must start with #/$defs/",
    ],
    [
      "$ref without definitions",
      object({ a: { $ref: "#/$defs/D" } }),
      "properties.a.$ref",
      "$defs not found for reference: #/$defs/D",
    ],
    [
      "$ref to a missing definition",
      object({ a: { $ref: "#/$defs/E" } }, { $defs: { D: string } }),
      "root",
      "invalid $ref path: #/$defs/E",
    ],
    [
      "nested definitions",
      object({ a: { ...string, $defs: { D: string } } }),
      "properties.a",
      "keyword $defs must be at root level",
    ],
    [
      "recursion without an end",
      object(
        { n: { $ref: "#/$defs/N" } },
        {
          required: ["n"],
          $defs: { N: object({ next: { $ref: "#/$defs/N" } }, { required: ["next"] }) },
        },
      ),
      "root",
      "detected infinite recursion without termination condition",
    ],
    [
      "enum of two types",
      object({ a: { ...string, enum: ["x", 1] } }),
      "properties.a.enum",
      "enum value (1) does not match any type in [string]",
    ],
    [
      "enum with null",
      object({ a: { ...string, enum: ["x", null] } }),
      "properties.a.enum",
      "enum value (null) does not match any type in [string]",
    ],
    ["empty enum", object({ a: { ...string, enum: [] } }), "properties.a.enum", "enum array cannot be empty"],
    ["unknown type", object({ a: { type: "any" } }), "properties.a", "invalid type"],
    ["type as object", object({ a: { type: {} } }), "properties.a", "type must be string or array of strings"],
    [
      "required but not defined",
      object({ a: string }, { required: ["tag"] }),
      "required",
      "required property 'tag' is not defined in properties",
    ],
    [
      "description as object",
      object({ a: { ...string, description: {} } }),
      "properties.a.description",
      "description must be a string",
    ],
    [
      "too deep",
      nested(11),
      `properties.${"deeper.properties.".repeat(10)}deeper`,
      "schema depth exceeds maximum limit of 10",
    ],
    [
      "too large",
      object({ a: { ...string, description: "x".repeat(LIMIT) } }),
      "root",
      "schema exceeds maximum allowed size",
    ],
  ];
  for (const [name, schema, path, message] of cases) {
    test(name, () => assert.deepEqual(schemaProblem(schema, LIMIT), { path, message }));
  }

  test("newer limits → wider", () => {
    assert.equal(schemaProblem(nested(11), 120_000), undefined);
    assert.equal(schemaProblem(nested(31), 120_000)?.message, "schema depth exceeds maximum limit of 30");
  });

  test("size → counted in bytes, not characters", () => {
    const schema = object({ a: { ...string, description: "漢".repeat(5000) } });
    assert.equal(schemaProblem(schema, LIMIT)?.message, "schema exceeds maximum allowed size");
  });
});

describe("simulator schemas: accepted", () => {
  const cases: [name: string, schema: JsonObject][] = [
    ["no properties", { type: "object" }],
    [
      "annotations and unknown keywords",
      object({ a: { ...string, title: "t", format: "uuid", "x-y": 1 } }, { $schema: "s" }),
    ],
    ["bounds", object({ a: { type: "integer", minimum: 0 }, b: { type: "array", items: string, maxItems: 3 } })],
    ["property names", object({ a: object({}, { propertyNames: { minLength: 1 }, additionalProperties: string }) })],
    ["additional properties of any kind", object({}, { additionalProperties: {} })],
    ["a closed object", object({ a: string }, { required: ["a"], additionalProperties: false })],
    ["typed branches with a description above", object({ a: { description: "d", anyOf: [string, { type: "null" }] } })],
    ["nullable", object({ a: { type: ["string", "null"] } })],
    ["nullable enum", object({ a: { type: ["string", "null"], enum: ["x", null] } })],
    ["enum of integers", object({ a: { type: "integer", enum: [1, 2] } })],
    ["oneOf and allOf in place of a type", object({ a: { oneOf: [string] }, b: { allOf: [string] } })],
    ["properties named like keywords", object({ type: string, properties: string, $ref: string })],
    [
      "references, also inside definitions",
      object(
        { a: { $ref: "#/$defs/A" } },
        {
          $defs: { A: object({ b: { $ref: "#/$defs/B" } }), B: string },
        },
      ),
    ],
    ["recursion that may end", object({ next: { $ref: "#" }, list: { type: "array", items: { $ref: "#" } } })],
    [
      "required recursion through an empty list",
      object(
        { list: { type: "array", items: { $ref: "#" } } },
        {
          required: ["list"],
        },
      ),
    ],
    [
      "a linked list that ends with null",
      object(
        { list: { $ref: "#/$defs/N" } },
        {
          required: ["list"],
          $defs: {
            N: object({ next: { anyOf: [{ $ref: "#/$defs/N" }, { type: "null" }] } }, { required: ["next"] }),
          },
        },
      ),
    ],
    ["exactly ten levels", nested(10)],
  ];
  for (const [name, schema] of cases) {
    test(name, () => assert.equal(schemaProblem(schema, LIMIT), undefined));
  }

  test("exactly at the limit", () => {
    const room = LIMIT - Buffer.byteLength(JSON.stringify(object({ a: { ...string, description: "" } })));
    const schema = object({ a: { ...string, description: "x".repeat(room) } });
    assert.equal(schemaProblem(schema, LIMIT), undefined);
    assert.notEqual(schemaProblem(object({ a: { ...string, description: "x".repeat(room + 1) } }), LIMIT), undefined);
  });
});
