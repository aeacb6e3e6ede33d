//! Converts one schema node.

use serde_json::{Map, Value};

use super::enumeration::parts;
use super::hints::{Hints, MAX_QUOTED, described, set_default};
use super::merge::merge;
use super::normalizer::{MAX_WORK, Position, SchemaNormalizer, TOO_LARGE, anything, object};
use crate::chat::request::tool_schema::limits::MAX_DEPTH;
use crate::chat::request::tool_schema::{keywords, types};
use crate::error::clip;

/// Deepest nesting of nodes, also through references; running out of stack would end the process.
const MAX_NESTING: usize = 100;

/// Most times that `allOf` within `allOf` is merged into a node.
const MAX_MERGES: usize = 64;

impl SchemaNormalizer<'_> {
    /// Converts the whole schema.
    pub fn root(&mut self) -> Map<String, Value> {
        let converted = self.convert(self.source, Position { depth: 0, name: "", root: true }).unwrap_or_default();
        let root = if converted.get("type").is_some_and(|kind| kind == "object") {
            converted
        } else {
            self.lose("its parameters are not described as an object");
            object(&format!("Described as: {}", clip(&self.source.to_string(), MAX_QUOTED)))
        };
        self.finish(root)
    }

    /// Returns a schema of MFJS with the same meaning. `None`: no value is valid.
    pub fn convert(&mut self, schema: &Value, place: Position<'_>) -> Option<Map<String, Value>> {
        self.work += 1;
        match schema {
            _ if self.work > MAX_WORK || !self.affords(schema) => {
                self.lose(TOO_LARGE);
                Some(object(""))
            }
            Value::Bool(false) => None,
            Value::Bool(true) => Some(anything()),
            Value::Object(node) => self.node(node.clone(), place),
            other => {
                self.lose(format!("{} stands where a schema belongs", clip(&other.to_string(), 40)));
                Some(anything())
            }
        }
    }

    /// As [`convert`](Self::convert), for a schema that is an object.
    pub fn node(&mut self, node: Map<String, Value>, place: Position<'_>) -> Option<Map<String, Value>> {
        self.nesting += 1;
        let converted = if self.nesting > MAX_NESTING {
            self.lose("references that lead on and on are left open");
            Some(object(""))
        } else {
            self.rewritten(node, place)
        };
        self.nesting -= 1;
        converted
    }

    fn rewritten(&mut self, mut node: Map<String, Value>, place: Position<'_>) -> Option<Map<String, Value>> {
        if place.depth > MAX_DEPTH {
            self.lose(format!("parts nested deeper than {MAX_DEPTH} levels are left open"));
            return Some(object(&format!("Described as: {}", clip(&Value::Object(node).to_string(), MAX_QUOTED))));
        }
        for word in ["$ref", "$dynamicRef", "$recursiveRef"] {
            if let Some(Value::String(reference)) = node.shift_remove(word) {
                return self.referring(&reference, node, place);
            }
        }
        for _ in 0..MAX_MERGES {
            let Some(Value::Array(parts)) = node.shift_remove("allOf") else { break };
            for part in parts {
                match self.resolved(part) {
                    Value::Bool(false) => return None,
                    Value::Object(part) => merge(&mut node, part),
                    _ => {}
                }
            }
        }
        for word in ["anyOf", "oneOf"] {
            match node.shift_remove(word) {
                Some(Value::Array(branches)) if !branches.is_empty() => {
                    return self.alternatives(node, branches, place);
                }
                _ => {}
            }
        }
        if let Some(value) = node.shift_remove("const") {
            node.entry("enum").or_insert(Value::Array(vec![value]));
        }
        let mut kinds = types::named(&node);
        let mut hints = Hints::default();
        let values = self.values(&mut node, &mut kinds, &mut hints);
        if kinds.is_empty() {
            if node.get("type").is_some_and(|stated| *stated != Value::Array(Vec::new())) {
                let stated = node.get("type").map_or_else(String::new, Value::to_string);
                self.lose(format!("the unknown type {} is left open", clip(&stated, 40)));
            }
            match types::inferred(&node) {
                _ if place.root => kinds.push("object"),
                Some(kind) => kinds.push(kind),
                None => return Some(self.any_value(node, hints, place)),
            }
        }
        if place.root && kinds.contains(&"object") {
            kinds = vec!["object"];
        }
        Some(self.typed(node, &kinds, values, hints, place))
    }

    /// A schema that says nothing about the type.
    fn any_value(&mut self, mut node: Map<String, Value>, mut hints: Hints, place: Position<'_>) -> Map<String, Value> {
        let mut out = anything();
        self.annotate(&mut out, &mut node, place);
        hints.of_any_type(&mut node);
        self.add_hints(hints, &mut out);
        out
    }

    /// A schema of these types: several types become several branches, each with the keywords that apply to it.
    fn typed(
        &mut self,
        mut node: Map<String, Value>,
        kinds: &[&'static str],
        values: Option<Vec<Value>>,
        mut hints: Hints,
        place: Position<'_>,
    ) -> Map<String, Value> {
        let mut notes = Map::new();
        for word in ["title", "description", "default"] {
            if let Some(value) = node.shift_remove(word) {
                notes.insert(word.to_owned(), value);
            }
        }
        let mut branches: Vec<Map<String, Value>> = Vec::new();
        for kind in kinds {
            let own = values.as_deref().map(|values| values_of(values, kind));
            if own.as_ref().is_some_and(Vec::is_empty) && *kind != "null" {
                continue;
            }
            let mut part = Map::new();
            for word in keywords::of(kind) {
                if let Some(value) = node.get(*word) {
                    if kinds.len() > 1 && !self.affords(value) {
                        break;
                    }
                    part.insert((*word).to_owned(), value.clone());
                }
            }
            match own.filter(|_| *kind != "null") {
                Some(own) => {
                    for values in parts(own) {
                        branches.push(self.member(part.clone(), kind, Some(values), place));
                    }
                }
                None => branches.push(self.member(part, kind, None, place)),
            }
        }
        let mut out = union(branches);
        self.annotate(&mut out, &mut notes, place);
        hints.of_any_type(&mut node);
        self.add_hints(hints, &mut out);
        out
    }

    /// Adds description and default value.
    pub fn annotate(&mut self, out: &mut Map<String, Value>, notes: &mut Map<String, Value>, place: Position<'_>) {
        let default = notes.shift_remove("default");
        if let Some(description) = described(notes, place.name) {
            let own = out.shift_remove("description");
            out.insert("description".to_owned(), description.into());
            if let Some(Value::String(own)) = own {
                super::hints::describe(out, &own);
            }
        }
        set_default(out, default);
    }

    /// Adds hints to the description.
    pub fn add_hints(&mut self, hints: Hints, out: &mut Map<String, Value>) {
        if hints.add_to(out) {
            self.lose("a long condition is shortened");
        }
    }
}

/// The values of an enumeration that are of this type.
fn values_of(values: &[Value], kind: &'static str) -> Vec<Value> {
    values.iter().filter(|value| types::fits(value, &[kind])).cloned().collect()
}

/// Several branches as one schema: a list of types if nothing stands beside it, else a choice.
fn union(mut branches: Vec<Map<String, Value>>) -> Map<String, Value> {
    if branches.len() == 1 {
        return branches.remove(0);
    }
    let mut out = Map::new();
    let bare = |branch: &Map<String, Value>| branch.len() == 1;
    if branches.iter().all(bare) {
        let types: Vec<Value> = branches.iter().filter_map(|branch| branch.get("type").cloned()).collect();
        out.insert("type".to_owned(), Value::Array(types));
        return out;
    }
    // An enumeration may list null beside strings and switches; a number type refuses the null that follows it.
    if let [first, second] = branches.as_slice()
        && bare(second)
        && second.get("type").is_some_and(|kind| kind == "null")
        && first.len() == 2
        && first.get("type").is_some_and(|kind| kind == "string" || kind == "boolean")
        && let Some(Value::Array(values)) = first.get("enum")
    {
        let mut values = values.clone();
        values.push(Value::Null);
        out.insert("type".to_owned(), Value::Array(vec![first["type"].clone(), "null".into()]));
        out.insert("enum".to_owned(), Value::Array(values));
        return out;
    }
    out.insert("anyOf".to_owned(), branches.into_iter().map(Value::Object).collect());
    out
}
