//! Gives properties another name on the wire where their own is refused.

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;

use crate::chat::request::tool_schema::mfjs::{RESERVED_NAMES, is_unaddressable};

/// Names on the wire for properties whose own names are refused. Each name on the wire is used for nothing else in the schema, so
/// that it can be mapped back.
pub struct PropertyNames {
    /// Own name → name on the wire.
    wire: BTreeMap<String, String>,
    taken: HashSet<String>,
}

impl PropertyNames {
    pub fn new(source: &Value) -> Self {
        let mut taken = HashSet::new();
        collect_keys(source, &mut taken);
        Self { wire: BTreeMap::new(), taken }
    }

    /// Returns the name that a property is sent under.
    pub fn sent(&mut self, name: &str) -> String {
        if RESERVED_NAMES.contains(&name) || is_unaddressable(name) { self.safe(name) } else { name.to_owned() }
    }

    /// Returns a name without characters that are refused anywhere, one for each own name.
    pub fn safe(&mut self, name: &str) -> String {
        if let Some(known) = self.wire.get(name) {
            return known.clone();
        }
        let plain: String =
            name.chars().filter(|c| *c != '$').map(|c| if matches!(c, '{' | '}' | '/') { '_' } else { c }).collect();
        let mut wire = format!("{plain}_");
        while self.taken.contains(&wire) {
            wire.push('_');
        }
        self.taken.insert(wire.clone());
        self.wire.insert(name.to_owned(), wire.clone());
        wire
    }

    /// Returns all changed names: name on the wire → own name.
    pub fn renamed(&self) -> BTreeMap<String, String> {
        self.wire.iter().map(|(own, wire)| (wire.clone(), own.clone())).collect()
    }
}

fn collect_keys(value: &Value, keys: &mut HashSet<String>) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                keys.insert(key.clone());
                collect_keys(value, keys);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_keys(item, keys)),
        _ => {}
    }
}
