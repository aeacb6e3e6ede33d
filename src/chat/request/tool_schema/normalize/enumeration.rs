//! Reads enumerations, which in MFJS hold values of one primitive type and null.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::hints::Hints;
use super::normalizer::SchemaNormalizer;
use crate::chat::request::tool_schema::limits::{MAX_UNMEASURED_VALUES, MAX_VALUES, MAX_VALUES_BYTES};
use crate::chat::request::tool_schema::{mfjs, types};

/// Longest enumeration that is sent, in bytes of all values together. A longer one leaves too little room for the rest.
const MAX_LISTED_BYTES: usize = 10_000;

impl SchemaNormalizer<'_> {
    /// Takes the values out of a node, as far as they can be listed, and adapts its types to them.
    pub(super) fn values(
        &mut self,
        node: &mut Map<String, Value>,
        kinds: &mut Vec<&'static str>,
        hints: &mut Hints,
    ) -> Option<Vec<Value>> {
        let listed = match node.shift_remove("enum") {
            Some(Value::Array(listed)) => listed,
            None | Some(Value::Null) => return None,
            Some(other) => {
                hints.quoted.insert("enum".to_owned(), other);
                return None;
            }
        };
        let mut seen = HashSet::new();
        let mut values: Vec<Value> = listed.into_iter().filter(|value| seen.insert(value.to_string())).collect();
        if values.is_empty() {
            return None;
        }
        let own = types::of_all(values.iter());
        let compound = own.iter().any(|one| matches!(*one, "object" | "array"));
        let long = needs_parts(&values) && mfjs::length(&values) > MAX_LISTED_BYTES;
        if compound || long {
            if long {
                self.lose(format!("a list of {} values is left open", values.len()));
            }
            *kinds = own;
            hints.quoted.insert("enum".to_owned(), Value::Array(values));
            return None;
        }
        let nullable = kinds.contains(&"null");
        if kinds.is_empty() || !values.iter().all(|value| types::fits(value, kinds)) || kinds.len() > own.len() + 1 {
            *kinds = own;
        }
        // Integers are listed under the wider type if that is the stated one.
        if kinds.as_slice() == ["null"] {
            return None;
        }
        // A type that allows null means it, also where the list forgets it.
        if nullable {
            if !kinds.contains(&"null") {
                kinds.push("null");
            }
            values.retain(|value| !value.is_null());
        }
        // Null comes last, so that the other type decides which keywords may stand beside the list.
        kinds.sort_by_key(|kind| *kind == "null");
        Some(values)
    }
}

/// Returns whether a list of values exceeds the limits of one enumeration.
fn needs_parts(values: &[Value]) -> bool {
    values.len() > MAX_VALUES || (values.len() > MAX_UNMEASURED_VALUES && mfjs::length(values) > MAX_VALUES_BYTES)
}

/// Splits a list of values into enumerations within the limits.
pub(super) fn parts(values: Vec<Value>) -> Vec<Vec<Value>> {
    if needs_parts(&values) {
        values.chunks(MAX_UNMEASURED_VALUES).map(<[Value]>::to_vec).collect()
    } else {
        vec![values]
    }
}
