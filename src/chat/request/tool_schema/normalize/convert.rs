//! Any JSON Schema → the subset.
//!
//! One walk over the schema. A word that has an equivalent is replaced by it; a word that only narrows what is valid moves into
//! the description, where the model reads it; a part that cannot be said at all becomes an open object, and the person hears
//! of it. References stay references, gathered in `$defs` of the root, because expanding them is what makes schemas explode.

mod hints;
mod node;
mod referring;
mod values;

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::cache::Normalised;
use super::combine::merge;
use super::shrink::shrink;
use super::{MAX_DEPTH, fallback, problem, types};
use crate::error::clip;
pub use hints::{Hints, described};
use values::split_by_type;

/// Schema nodes that are looked at before the rest counts as too much.
const MAX_WORK: usize = 20_000;

/// Values that are copied, for each one of the schema, before the rest counts as too much. A few definitions that name each other
/// twice stand for more parts than any memory holds.
const COPIES: usize = 10;

/// The same for any schema, however small.
const FREE_COPIES: usize = 20_000;

/// Nodes within nodes before the rest is left open: running out of stack would end the process.
const MAX_NESTING: usize = 100;

/// Longest constraint that is quoted in a description, in characters.
const MAX_QUOTED: usize = 400;

const TOO_LARGE: &str = "its schema is too large";

/// Brings a schema, given as JSON text, into the subset.
pub fn normalise(text: &str) -> Normalised {
    if text.is_empty() || text == "null" {
        let parameters = fallback::verbatim(r#"{"type":"object","properties":{}}"#);
        return Normalised { parameters, remark: String::new(), loss: None };
    }
    let schema: Value = match serde_json::from_str(text) {
        Ok(schema) => schema,
        Err(error) => return fallback::open(text, &error.to_string()),
    };
    if !schema.is_object() {
        let loss = (schema != Value::Bool(true)).then(|| {
            format!("its parameters are not a JSON Schema but {}; any arguments count as valid.", clip(text, 60))
        });
        return Normalised { parameters: fallback::verbatim(r#"{"type":"object"}"#), remark: String::new(), loss };
    }
    if problem(&schema).is_none() {
        return Normalised { parameters: fallback::verbatim(text), remark: String::new(), loss: None };
    }
    let mut normaliser = Normaliser::new(&schema);
    let root = normaliser.root();
    let (schema, remark) = shrink(Value::Object(root));
    if let Some(problem) = problem(&schema) {
        return fallback::open(text, &problem.to_string());
    }
    let loss = (!normaliser.losses.is_empty()).then(|| format!("{}.", normaliser.losses.join("; ")));
    Normalised { parameters: fallback::verbatim(&schema.to_string()), remark, loss }
}

/// Where in the schema we are.
#[derive(Clone, Copy)]
pub struct Place<'n> {
    /// Objects around this node.
    pub depth: usize,
    /// Name of the property it describes, if it does.
    pub name: &'n str,
    /// The schema itself, which has to be an object.
    pub root: bool,
}

impl Place<'_> {
    /// A place inside this one that is no property.
    pub fn inside(self) -> Place<'static> {
        Place { depth: self.depth, name: "", root: false }
    }
}

/// One schema on its way into the subset.
pub struct Normaliser<'s> {
    source: &'s Value,
    definitions: Map<String, Value>,
    /// Reference → name in `$defs`.
    names: HashMap<String, String>,
    /// References that are being expanded around the current node.
    expanding: Vec<String>,
    work: usize,
    /// Values that may still be copied.
    copies: usize,
    /// Nodes around the current one, those of the references that led here included.
    nesting: usize,
    /// What got lost, for a person.
    pub losses: Vec<String>,
}

impl<'s> Normaliser<'s> {
    fn new(source: &'s Value) -> Self {
        Self {
            source,
            definitions: Map::new(),
            names: HashMap::new(),
            expanding: Vec::new(),
            work: 0,
            copies: FREE_COPIES + COPIES * size(source),
            nesting: 0,
            losses: Vec::new(),
        }
    }

    fn root(&mut self) -> Map<String, Value> {
        let converted = self.convert(self.source, Place { depth: 0, name: "", root: true }).unwrap_or_default();
        let mut root = if converted.get("type").is_some_and(|kind| kind == "object") {
            converted
        } else {
            self.lose("its parameters are not described as an object");
            object(&format!("Described as: {}", clip(&self.source.to_string(), MAX_QUOTED)))
        };
        if !self.definitions.is_empty() {
            root.insert("$defs".to_owned(), Value::Object(std::mem::take(&mut self.definitions)));
        }
        root
    }

    /// Remembers that something got lost.
    pub fn lose(&mut self, what: impl Into<String>) {
        let what = what.into();
        if self.losses.len() < 5 && !self.losses.contains(&what) {
            self.losses.push(what);
        }
    }

    /// Whether `value` may still be copied.
    pub fn affords(&mut self, value: &Value) -> bool {
        let left = self.copies.checked_sub(size(value));
        self.copies = left.unwrap_or(0);
        if left.is_none() {
            self.lose(TOO_LARGE);
        }
        left.is_some()
    }

    /// A schema of the subset that means the same. `None`: nothing is valid.
    pub fn convert(&mut self, schema: &Value, place: Place<'_>) -> Option<Map<String, Value>> {
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

    /// As `convert`, for a schema that is an object.
    pub fn node(&mut self, node: Map<String, Value>, place: Place<'_>) -> Option<Map<String, Value>> {
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

    fn rewritten(&mut self, mut node: Map<String, Value>, place: Place<'_>) -> Option<Map<String, Value>> {
        if place.depth > MAX_DEPTH {
            self.lose(format!("parts nested deeper than {MAX_DEPTH} levels are left open"));
            return Some(object(&format!("Described as: {}", clip(&Value::Object(node).to_string(), MAX_QUOTED))));
        }
        for word in ["$ref", "$dynamicRef", "$recursiveRef"] {
            if let Some(Value::String(reference)) = node.shift_remove(word) {
                return self.referring(&reference, node, place);
            }
        }
        for _ in 0..64 {
            let Some(Value::Array(parts)) = node.shift_remove("allOf") else { break };
            for part in parts {
                match self.resolved(part) {
                    Value::Bool(false) => return None,
                    Value::Object(part) => merge(&mut node, part),
                    _ => {}
                }
            }
        }
        if let Some(branches) = node.shift_remove("oneOf") {
            node.entry("anyOf").or_insert(branches);
        }
        let mut hints = Hints::default();
        match node.shift_remove("anyOf") {
            Some(Value::Array(branches)) if !branches.is_empty() => return self.alternatives(node, branches, place),
            _ => {}
        }
        if let Some(value) = node.shift_remove("const") {
            node.entry("enum").or_insert(Value::Array(vec![value]));
        }
        let mut kinds = types::named(&node);
        let values = self.values(&mut node, &mut kinds, &mut hints);
        if kinds.is_empty() {
            kinds.push(if place.root { "object" } else { types::inferred(&node) });
        }
        if place.root && kinds.contains(&"object") {
            kinds = vec!["object"];
        }
        if let Some(values) = values {
            if let Some(split) = split_by_type(&values, &node) {
                return Some(split);
            }
            node.insert("enum".to_owned(), Value::Array(values));
        }
        Some(self.assemble(node, &kinds, hints, place))
    }
}

/// Any value at all.
pub fn anything() -> Map<String, Value> {
    let mut out = Map::new();
    out.insert("type".to_owned(), json!(types::TYPES.iter().filter(|one| **one != "integer").collect::<Vec<_>>()));
    out
}

fn object(description: &str) -> Map<String, Value> {
    let mut out = Map::new();
    out.insert("type".to_owned(), "object".into());
    if !description.is_empty() {
        out.insert("description".to_owned(), description.into());
    }
    out
}

/// Values within a value, itself included.
fn size(value: &Value) -> usize {
    match value {
        Value::Object(members) => 1 + members.values().map(size).sum::<usize>(),
        Value::Array(items) => 1 + items.iter().map(size).sum::<usize>(),
        _ => 1,
    }
}
