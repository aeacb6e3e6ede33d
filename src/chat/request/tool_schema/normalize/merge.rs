//! Merges two schemas that apply to one value.

use serde_json::{Map, Value, json};

/// Adds the conditions of `more` to `base`, which then requires both.
pub fn merge(base: &mut Map<String, Value>, more: Map<String, Value>) {
    for (word, value) in more {
        let Some(known) = base.get_mut(&word) else {
            base.insert(word, value);
            continue;
        };
        match (word.as_str(), &mut *known, value) {
            ("properties", Value::Object(known), Value::Object(properties)) => {
                for (name, property) in properties {
                    match known.get_mut(&name) {
                        Some(own) if *own != property => require_both(own, property),
                        Some(_) => {}
                        None => {
                            known.insert(name, property);
                        }
                    }
                }
            }
            ("required", Value::Array(known), Value::Array(names)) => {
                for name in names {
                    if !known.contains(&name) {
                        known.push(name);
                    }
                }
            }
            ("type" | "enum", known, value) => *known = common(known, value),
            ("minimum" | "minLength" | "minItems" | "minProperties", known, value) => {
                if value.as_f64() > known.as_f64() {
                    *known = value;
                }
            }
            ("maximum" | "maxLength" | "maxItems" | "maxProperties", known, value) => {
                if value.as_f64() < known.as_f64() {
                    *known = value;
                }
            }
            ("allOf", Value::Array(known), Value::Array(parts)) => known.extend(parts),
            ("anyOf" | "oneOf", _, value) => {
                let part = json!({ "anyOf": value });
                match base.get_mut("allOf") {
                    Some(Value::Array(parts)) => parts.push(part),
                    _ => {
                        base.insert("allOf".to_owned(), json!([part]));
                    }
                }
            }
            ("items", known, value) if *known != value => require_both(known, value),
            ("description" | "title" | "default" | "$defs" | "definitions", _, _) => {}
            (_, known, value) => *known = value,
        }
    }
}

/// Requires both schemas. The parts stand side by side, because thousands of them must not nest thousands of levels deep.
fn require_both(known: &mut Value, more: Value) {
    match known.as_object_mut().filter(|own| own.len() == 1).and_then(|own| own.get_mut("allOf")) {
        Some(Value::Array(parts)) => parts.push(more),
        _ => *known = json!({ "allOf": [known.take(), more] }),
    }
}

/// Returns what two lists or single words have in common; the second one if that is nothing.
fn common(known: &Value, more: Value) -> Value {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
    let (known, more_values) = (list(known), list(&more));
    let integers = |value: &Value| value == "integer" && known.contains(&Value::from("number"));
    let mut both: Vec<Value> =
        more_values.iter().filter(|value| known.contains(value) || integers(value)).cloned().collect();
    match both.len() {
        0 => more,
        1 if more.is_string() => both.remove(0),
        _ => Value::Array(both),
    }
}
