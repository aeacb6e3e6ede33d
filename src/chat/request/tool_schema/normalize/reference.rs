//! Converts references.

use serde_json::{Map, Value, json};

use super::hints::describe;
use super::merge::merge;
use super::normalizer::{Position, SchemaNormalizer, anything, object};
use crate::chat::request::tool_schema::{keywords, references};
use crate::error::clip;

/// Most references to references that are followed.
const MAX_CHAIN: usize = 16;

impl SchemaNormalizer<'_> {
    /// Converts a node that consisted of a reference and `siblings`, which MFJS does not allow.
    pub(super) fn referring(
        &mut self,
        reference: &str,
        siblings: Map<String, Value>,
        place: Position<'_>,
    ) -> Option<Map<String, Value>> {
        let Some(target) = references::target(self.source, reference) else {
            self.lose(format!("the reference {} leads nowhere, so any value counts as valid", clip(reference, 80)));
            return self.node(siblings, place);
        };
        let speaks = |word: &str| !keywords::is_annotation(word) || matches!(word, "description" | "default");
        let bare = !siblings.keys().any(|word| speaks(word));
        if bare && !place.root {
            return Some(self.reference_to(reference, target));
        }
        if self.expanding.iter().any(|open| open == reference) {
            if place.root {
                return Some(object(""));
            }
            if siblings.keys().any(|word| !keywords::is_annotation(word)) {
                self.lose("conditions beside a reference to the schema around it are left out");
            }
            let mut out = self.reference_to(reference, target);
            if let Some(description) = siblings.get("description").and_then(Value::as_str) {
                describe(&mut out, description);
            }
            return Some(out);
        }
        let mut merged = match target {
            _ if !self.affords(target) => return Some(anything()),
            Value::Object(members) => members.clone(),
            Value::Bool(false) => return None,
            _ => Map::new(),
        };
        // What is said at the place of use is more specific than what the definition says.
        for word in ["description", "title", "default"] {
            if siblings.contains_key(word) {
                merged.shift_remove(word);
            }
        }
        merge(&mut merged, siblings);
        self.expanding.push(reference.to_owned());
        let result = self.node(merged, place);
        self.expanding.pop();
        result
    }

    /// Returns `{"$ref": …}` into `$defs` of the root, where the target is put the first time.
    fn reference_to(&mut self, reference: &str, target: &Value) -> Map<String, Value> {
        let name = match self.definition_names.get(reference) {
            Some(name) => name.clone(),
            None => {
                let name = self.definition_name(reference);
                self.definition_names.insert(reference.to_owned(), name.clone());
                // Keeps the place while the target, which may refer to itself, is converted.
                self.definitions.insert(name.clone(), Value::Null);
                let around = std::mem::replace(&mut self.expanding, vec![reference.to_owned()]);
                let converted = self.convert(target, Position { depth: 0, name: "", root: false });
                self.expanding = around;
                let converted = converted.unwrap_or_else(|| {
                    self.lose(format!("{} allows no value and is left open", clip(reference, 80)));
                    anything()
                });
                self.definitions.insert(name.clone(), Value::Object(converted));
                name
            }
        };
        let mut out = Map::new();
        out.insert("$ref".to_owned(), format!("#/$defs/{name}").into());
        out
    }

    fn definition_name(&self, reference: &str) -> String {
        let last = reference.rsplit(['/', '#']).next().unwrap_or_default();
        let safe: String =
            last.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' }).collect();
        let base = if safe.is_empty() { "root".to_owned() } else { safe };
        let mut name = base.clone();
        let mut count = 1;
        while self.definitions.contains_key(&name) {
            count += 1;
            name = format!("{base}_{count}");
        }
        name
    }

    /// Follows the reference of a part of `allOf` or `anyOf`, so that the part can be merged with what stands around it.
    pub fn resolved(&mut self, schema: Value) -> Value {
        let mut schema = schema;
        for _ in 0..MAX_CHAIN {
            let Value::Object(mut node) = schema else { return schema };
            let Some(reference) = node.get("$ref").and_then(Value::as_str).map(str::to_owned) else {
                return Value::Object(node);
            };
            node.shift_remove("$ref");
            let mut merged = match references::target(self.source, &reference) {
                Some(target) if !self.affords(target) => return Value::Bool(true),
                Some(Value::Object(members)) => members.clone(),
                Some(Value::Bool(false)) => return Value::Bool(false),
                Some(_) => Map::new(),
                None => {
                    self.lose(format!(
                        "the reference {} leads nowhere, so any value counts as valid",
                        clip(&reference, 80)
                    ));
                    Map::new()
                }
            };
            merge(&mut merged, node);
            schema = Value::Object(merged);
        }
        self.lose("references that lead on and on are left open");
        json!(true)
    }
}
