//! The keywords of JSON Schema, by what they apply to (docs/protocol.md#tool-schema-subset).

/// Keywords that may stand in any schema.
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

/// Returns whether a schema that is sent may hold this member.
pub fn is_known(keyword: &str, at_root: bool) -> bool {
    EVERYWHERE.contains(&keyword) || keyword == "$ref" || (at_root && matches!(keyword, "$defs" | "$schema"))
}

/// Returns whether a member says nothing about which values are valid.
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

/// Keywords for objects.
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

/// Keywords for arrays.
pub const ARRAY: [&str; 9] = [
    "items",
    "prefixItems",
    "additionalItems",
    "minItems",
    "maxItems",
    "uniqueItems",
    "contains",
    "minContains",
    "maxContains",
];

/// Keywords for strings.
pub const STRING: [&str; 4] = ["minLength", "maxLength", "pattern", "format"];

/// Keywords for numbers.
pub const NUMBER: [&str; 6] = ["minimum", "maximum", "multipleOf", "exclusiveMinimum", "exclusiveMaximum", "format"];

/// Returns the keywords for values of this type.
pub fn of(kind: &str) -> &'static [&'static str] {
    match kind {
        "object" => &OBJECT,
        "array" => &ARRAY,
        "string" => &STRING,
        "number" | "integer" => &NUMBER,
        _ => &[],
    }
}

/// Returns whether a keyword applies to values of some type only.
pub fn is_typed(keyword: &str) -> bool {
    [OBJECT.as_slice(), &ARRAY, &STRING, &NUMBER].iter().any(|words| words.contains(&keyword))
}
