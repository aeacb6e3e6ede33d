//! Enumerations: the subset takes one primitive type and null.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::Normaliser;
use super::hints::Hints;
use crate::chat::request::tool_schema::{MAX_VALUES, types};

impl Normaliser<'_> {
    /// The values of an enumeration, as far as they can be listed, and the types that fit them.
    pub(super) fn values(
        &mut self,
        node: &mut Map<String, Value>,
        kinds: &mut Vec<&'static str>,
        hints: &mut Hints,
    ) -> Option<Vec<Value>> {
        let Some(Value::Array(listed)) = node.shift_remove("enum") else { return None };
        let mut seen = HashSet::new();
        let values: Vec<Value> = listed.into_iter().filter(|value| seen.insert(value.to_string())).collect();
        if values.is_empty() {
            return None;
        }
        let own = types::of_all(values.iter());
        let compound = own.iter().any(|one| matches!(*one, "object" | "array"));
        if compound || values.len() > MAX_VALUES {
            if values.len() > MAX_VALUES {
                self.lose(format!("a list of more than {MAX_VALUES} values is left open"));
            }
            *kinds = own;
            hints.also.insert("enum".to_owned(), Value::Array(values));
            return None;
        }
        if kinds.is_empty() || !values.iter().all(|value| types::fits(value, kinds)) || kinds.len() > own.len() + 1 {
            *kinds = own;
        }
        if own_is_null_only(kinds) {
            return None;
        }
        Some(values)
    }
}

fn own_is_null_only(kinds: &[&str]) -> bool {
    kinds == ["null"]
}

/// Values of several types: one branch for each, unless it is one type and null.
pub(super) fn split_by_type(values: &[Value], node: &Map<String, Value>) -> Option<Map<String, Value>> {
    let own = types::of_all(values.iter());
    if own.iter().filter(|one| **one != "null").count() < 2 {
        return None;
    }
    let branches: Vec<Value> = own
        .iter()
        .map(|kind| match *kind {
            "null" => json!({ "type": "null" }),
            kind => {
                let own: Vec<&Value> = values.iter().filter(|value| types::fits(value, &[kind])).collect();
                json!({ "type": kind, "enum": own })
            }
        })
        .collect();
    let mut out = Map::new();
    if let Some(description) = node.get("description").filter(|text| text.is_string()) {
        out.insert("description".to_owned(), description.clone());
    }
    out.insert("anyOf".to_owned(), Value::Array(branches));
    Some(out)
}
