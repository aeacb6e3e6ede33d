//! What a schema carries along on its way into MFJS: definitions, names, limits and losses.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::property_names::PropertyNames;
use crate::chat::request::tool_schema::types::TYPES;

/// Most schema nodes that are converted; the rest counts as too large.
pub const MAX_WORK: usize = 20_000;

/// Values that may be copied for each one of the schema. A few definitions that name each other twice stand for more parts than
/// any memory holds.
const COPIES: usize = 10;

/// Values that may be copied for any schema, however small.
const FREE_COPIES: usize = 20_000;

/// Most losses that are reported for one schema.
const MAX_LOSSES: usize = 5;

/// Loss of a schema with too many parts.
pub const TOO_LARGE: &str = "its schema is too large";

/// A place in the schema.
#[derive(Clone, Copy)]
pub struct Position<'n> {
    /// Objects around this node.
    pub depth: usize,
    /// Name of the property, if this is one.
    pub name: &'n str,
    /// This is the schema itself, which must be an object.
    pub root: bool,
}

impl Position<'_> {
    /// Returns a position inside this one that is no property.
    pub fn inside(self) -> Position<'static> {
        Position { depth: self.depth, name: "", root: false }
    }
}

/// One schema on its way into MFJS.
pub struct SchemaNormalizer<'s> {
    pub(super) source: &'s Value,
    pub(super) definitions: Map<String, Value>,
    /// Reference → name in `$defs`.
    pub(super) definition_names: HashMap<String, String>,
    /// References that are being expanded around the current node.
    pub(super) expanding: Vec<String>,
    pub(super) work: usize,
    /// Values that may still be copied.
    copies: usize,
    /// Nodes around the current one, also through references.
    pub(super) nesting: usize,
    /// Properties with another name on the wire.
    pub names: PropertyNames,
    /// What was lost, for the user.
    pub losses: Vec<String>,
}

impl<'s> SchemaNormalizer<'s> {
    /// Starts with this schema.
    pub fn new(source: &'s Value) -> Self {
        Self {
            source,
            definitions: Map::new(),
            definition_names: HashMap::new(),
            expanding: Vec::new(),
            work: 0,
            copies: FREE_COPIES + COPIES * size(source),
            nesting: 0,
            names: PropertyNames::new(source),
            losses: Vec::new(),
        }
    }

    /// Records a loss.
    pub fn lose(&mut self, what: impl Into<String>) {
        let what = what.into();
        if self.losses.len() < MAX_LOSSES && !self.losses.contains(&what) {
            self.losses.push(what);
        }
    }

    /// Returns whether `value` may still be copied, and counts it.
    pub fn affords(&mut self, value: &Value) -> bool {
        let left = self.copies.checked_sub(size(value));
        self.copies = left.unwrap_or(0);
        if left.is_none() {
            self.lose(TOO_LARGE);
        }
        left.is_some()
    }
}

/// Returns the schema of any value.
pub fn anything() -> Map<String, Value> {
    let mut out = Map::new();
    out.insert("type".to_owned(), json!(TYPES.iter().filter(|one| **one != "integer").collect::<Vec<_>>()));
    out
}

/// Returns an open object.
pub fn object(description: &str) -> Map<String, Value> {
    let mut out = Map::new();
    out.insert("type".to_owned(), "object".into());
    if !description.is_empty() {
        out.insert("description".to_owned(), description.into());
    }
    out
}

/// Counts the values within a value, itself included.
fn size(value: &Value) -> usize {
    match value {
        Value::Object(members) => 1 + members.values().map(size).sum::<usize>(),
        Value::Array(items) => 1 + items.iter().map(size).sum::<usize>(),
        _ => 1,
    }
}
