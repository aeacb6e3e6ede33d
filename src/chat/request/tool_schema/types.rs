//! The types of schemas and values, stated or inferred (docs/protocol.md#tool-schema-subset).

use serde_json::{Map, Value};

use super::keywords;

/// The types of JSON Schema.
pub const TYPES: [&str; 7] = ["string", "integer", "number", "boolean", "object", "array", "null"];

/// Returns the type for any common spelling.
fn canonical(name: &str) -> Option<&'static str> {
    let lower = name.trim().to_ascii_lowercase();
    Some(match lower.as_str() {
        "string" | "str" | "text" | "date" | "datetime" => "string",
        "integer" | "int" | "int32" | "int64" | "long" => "integer",
        "number" | "float" | "double" | "decimal" => "number",
        "boolean" | "bool" => "boolean",
        "object" | "dict" | "map" | "record" => "object",
        "array" | "list" | "tuple" => "array",
        "null" | "none" => "null",
        _ => return None,
    })
}

/// Returns the types that a schema names, each once; empty if it names none that exists.
pub fn named(node: &Map<String, Value>) -> Vec<&'static str> {
    let mut types: Vec<&'static str> = Vec::new();
    let mut add = |name: &Value| {
        if let Some(found) = name.as_str().and_then(canonical)
            && !types.contains(&found)
        {
            types.push(found);
        }
    };
    match node.get("type") {
        Some(Value::Array(names)) => names.iter().for_each(&mut add),
        Some(name) => add(name),
        None => {}
    }
    // In OpenAPI this means "or null".
    if node.get("nullable") == Some(&Value::Bool(true)) && !types.is_empty() && !types.contains(&"null") {
        types.push("null");
    }
    if types.contains(&"integer") && types.contains(&"number") {
        types.retain(|one| *one != "integer");
    }
    types
}

/// Returns the type of a value. Numbers without a fraction are integers.
pub fn of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
        Value::Number(number) => {
            let whole = number.is_i64() || number.is_u64() || number.as_f64().is_some_and(|n| n.fract() == 0.0);
            if whole { "integer" } else { "number" }
        }
    }
}

/// Returns whether a value is of one of the types.
pub fn fits(value: &Value, types: &[&str]) -> bool {
    let own = of(value);
    types.contains(&own) || (own == "integer" && types.contains(&"number"))
}

/// Returns the types of some values, each once. Integers among other numbers are numbers.
pub fn of_all<'v>(values: impl Iterator<Item = &'v Value>) -> Vec<&'static str> {
    let mut types: Vec<&'static str> = Vec::new();
    for value in values {
        let own = of(value);
        if !types.contains(&own) {
            types.push(own);
        }
    }
    if types.contains(&"number") {
        types.retain(|one| *one != "integer");
    }
    types
}

/// Returns the type to which the other keywords apply; `None` if there are none, so that any value is valid.
pub fn inferred(node: &Map<String, Value>) -> Option<&'static str> {
    ["object", "array", "string", "number"]
        .into_iter()
        .find(|kind| keywords::of(kind).iter().any(|word| node.contains_key(*word)))
}
