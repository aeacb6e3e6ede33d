//! Which words of JSON Schema the subset knows (docs/protocol.md#tool-schema-subset).

/// Anywhere.
const EVERYWHERE: [&str; 16] = [
    "type",
    "description",
    "default",
    "enum",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "minItems",
    "maxItems",
    "minLength",
    "maxLength",
    "pattern",
    "minimum",
    "maximum",
    "anyOf",
];

/// Whether a schema may hold this member.
pub fn is_known(keyword: &str, at_root: bool) -> bool {
    EVERYWHERE.contains(&keyword) || keyword == "$ref" || (at_root && matches!(keyword, "$defs" | "$schema"))
}

/// Members that say nothing about which values are valid.
pub fn is_annotation(keyword: &str) -> bool {
    matches!(
        keyword,
        "description"
            | "title"
            | "default"
            | "examples"
            | "example"
            | "deprecated"
            | "readOnly"
            | "writeOnly"
            | "$schema"
            | "$id"
            | "id"
            | "$anchor"
            | "$comment"
            | "$defs"
            | "definitions"
            | "$vocabulary"
    ) || keyword.starts_with("x-")
}

/// Members that only objects have.
pub const OBJECT: [&str; 9] = [
    "properties",
    "additionalProperties",
    "patternProperties",
    "propertyNames",
    "required",
    "minProperties",
    "maxProperties",
    "dependentRequired",
    "dependentSchemas",
];

/// Members that only arrays have.
pub const ARRAY: [&str; 6] = ["items", "prefixItems", "minItems", "maxItems", "uniqueItems", "contains"];

/// Members that only strings have.
pub const STRING: [&str; 4] = ["minLength", "maxLength", "pattern", "format"];

/// Members that only numbers have.
pub const NUMBER: [&str; 5] = ["minimum", "maximum", "multipleOf", "exclusiveMinimum", "exclusiveMaximum"];
