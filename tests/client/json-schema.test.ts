/** The check of answers and tool arguments against a JSON Schema. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { schemaProblem } from "../../extension/client/json-schema.ts";

// `then` is a keyword of JSON Schema.
/* oxlint-disable unicorn/no-thenable */
/** Rows: what the schema says, the schema, a value that follows it, one that does not, and what is said about that. */
const CASES: [what: string, schema: object, right: unknown, wrong: unknown, problem: RegExp][] = [
  ["minProperties", { minProperties: 2 }, { a: 1, b: 2 }, { a: 1 }, /^the value must have at least 2 members$/],
  ["maxProperties", { maxProperties: 1 }, { a: 1 }, { a: 1, b: 2 }, /^the value must have at most 1 members$/],
  [
    "if and then",
    { if: { properties: { kind: { const: "b" } }, required: ["kind"] }, then: { required: ["size"] } },
    { kind: "b", size: 1 },
    { kind: "b" },
    /^the value has no size$/,
  ],
  [
    "if and else",
    { if: { type: "string" }, then: { minLength: 2 }, else: { type: "number" } },
    "ab",
    true,
    /^the value must be number$/,
  ],
  ["if alone", { if: { type: "string" } }, 1, undefined, /^$/],
  ["dependentRequired", { dependentRequired: { a: ["b"] } }, { a: 1, b: 2 }, { a: 1 }, /^the value has no b$/],
  ["dependentRequired, absent", { dependentRequired: { a: ["b"] } }, { c: 1 }, undefined, /^$/],
  [
    "dependentSchemas",
    { dependentSchemas: { a: { properties: { b: { type: "string" } } } } },
    { b: 1 },
    { a: 1, b: 1 },
    /^b must be string$/,
  ],
  ["contains", { contains: { type: "string" } }, [1, "a"], [1], /^the value must have at least 1 items that follow/],
  [
    "minContains and maxContains",
    { contains: { type: "string" }, minContains: 0, maxContains: 1 },
    [1],
    ["a", "b"],
    /^the value must have at most 1 items that follow/,
  ],
  [
    "propertyNames",
    { properties: { of: { propertyNames: { maxLength: 2 } } } },
    { of: { ab: 1 } },
    { of: { abc: 1 } },
    /^the name abc must have 0 to 2 characters$/,
  ],
  [
    "a percent sign in a reference",
    { $ref: "#/$defs/5%", $defs: { "5%": { type: "null" } } },
    null,
    1,
    /must be null$/,
  ],
  ["an escaped reference", { $ref: "#/$defs/a%20b", $defs: { "a b": { type: "null" } } }, null, 1, /must be null$/],
];

describe("schema", () => {
  for (const [what, schema, right, wrong, problem] of CASES) {
    test(`${what} → followed or not`, () => {
      assert.equal(schemaProblem(right, schema), undefined);
      if (wrong !== undefined) assert.match(schemaProblem(wrong, schema) ?? "followed", problem);
    });
  }

  test("a pattern of another dialect → ignored, and its members are not further ones", () => {
    const schema = { patternProperties: { "(?i)^x": { type: "number" } }, additionalProperties: false };
    assert.equal(schemaProblem({ X1: "a" }, schema), undefined);
    assert.equal(schemaProblem({ a: "b" }, { properties: { a: { pattern: "(?i)^x" } } }), undefined);
  });

  test("amounts beside multipleOf → as exact as a number can be", () => {
    for (const value of [0.29, 1.1, 1234567.89, 99_999_999.99]) {
      assert.equal(schemaProblem(value, { multipleOf: 0.01 }), undefined, `${value}`);
    }
    for (const value of [0.291, 1234567.891]) assert.ok(schemaProblem(value, { multipleOf: 0.01 }), `${value}`);
  });

  test("alternatives that refer to each other → each part is looked at once", () => {
    const operator = (name: string): object => ({
      type: "object",
      properties: { left: { $ref: "#" }, op: { const: name }, right: { $ref: "#" } },
      required: ["left", "op", "right"],
    });
    const schema = { anyOf: [{ type: "number" }, ...["+", "-", "*", "/"].map(operator)] };
    let value: unknown = 1;
    // Without a memory every level costs four times as much as the one below it.
    for (let depth = 0; depth < 60; depth += 1) value = { left: value, op: "/", right: 1 };
    assert.equal(schemaProblem(value, schema), undefined);
    assert.ok(schemaProblem({ left: value, op: "?", right: 1 }, schema));
  });

  test("uniqueItems → equal members in any order count as equal", () => {
    const many = Array.from({ length: 100_000 }, (_, index) => index);
    assert.equal(schemaProblem(many, { uniqueItems: true }), undefined);
    assert.ok(schemaProblem([...many, 7], { uniqueItems: true }));
    assert.ok(schemaProblem([{ a: 1, b: 2 }, 3, { b: 2, a: 1 }], { uniqueItems: true }));
  });

  test("members that JSON does not have → no raw error", () => {
    assert.ok(schemaProblem(1, { const: 2n }));
    assert.equal(schemaProblem(1, { type: "__defineGetter__" }), undefined);
  });

  test("parts that are no schemas → ignored", () => {
    for (const part of ["#/title", "#/const", "#/required", "#/nowhere/at/all", "#/constructor", "elsewhere.json"]) {
      assert.equal(schemaProblem(1, { $ref: part, title: "t", required: ["a"] }), undefined, part);
    }
    const odd = { properties: null, patternProperties: 5, dependentRequired: "a", allOf: {}, const: undefined };
    assert.equal(schemaProblem({ a: 1 }, odd as object), undefined);
  });
});
