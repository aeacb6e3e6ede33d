//! Maps the names of arguments between Pi and the wire.
//!
//! Some property names are refused by the service, so they have another name on the wire. A name is mapped only at the places
//! where the schema declares it: the same word as a key of free data stays as it is. Arguments are mapped as text while they
//! stream, so everything behind sees the tool's own names.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::{Map, Value};

/// Deepest nesting that is followed; deeper text passes unchanged.
const MAX_NESTING: usize = 127;

/// Longest key that is held back until it is complete, in bytes. A longer one is no property name.
const MAX_KEY: usize = 1024;

/// The direction in which names are mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From names on the wire to the tool's own.
    FromWire,
    /// From the tool's own names to those on the wire.
    ToWire,
}

/// The parts of a schema that lead to renamed properties, by position in a list.
#[derive(Debug, Default)]
pub struct ArgumentNames {
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    properties: HashMap<String, usize>,
    items: Option<usize>,
    additional: Option<usize>,
    /// Branches and the target of a reference.
    alternatives: Vec<usize>,
    /// Name on the wire → own name, of the properties declared here.
    own_names: BTreeMap<String, String>,
    wire_names: BTreeMap<String, String>,
}

impl ArgumentNames {
    /// Reads a schema within MFJS. `renamed`: name on the wire → the tool's own name; a name on the wire is used for nothing else
    /// in the schema.
    pub fn new(schema: &Value, renamed: &BTreeMap<String, String>) -> Self {
        let mut names = Self::default();
        let mut definitions = HashMap::new();
        if let Some(root) = schema.as_object() {
            names.add(root, root, renamed, &mut definitions);
        }
        names
    }

    fn add<'s>(
        &mut self,
        schema: &'s Map<String, Value>,
        root: &'s Map<String, Value>,
        renamed: &BTreeMap<String, String>,
        definitions: &mut HashMap<&'s str, usize>,
    ) -> usize {
        let at = self.nodes.len();
        self.nodes.push(Node::default());
        let mut node = Node::default();
        for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            if let Some(own) = renamed.get(name) {
                node.own_names.insert(name.clone(), own.clone());
                node.wire_names.insert(own.clone(), name.clone());
            }
            if let Some(property) = property.as_object() {
                node.properties.insert(name.clone(), self.add(property, root, renamed, definitions));
            }
        }
        if let Some(items) = schema.get("items").and_then(Value::as_object) {
            node.items = Some(self.add(items, root, renamed, definitions));
        }
        if let Some(more) = schema.get("additionalProperties").and_then(Value::as_object) {
            node.additional = Some(self.add(more, root, renamed, definitions));
        }
        for branch in schema.get("anyOf").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object) {
            node.alternatives.push(self.add(branch, root, renamed, definitions));
        }
        let reference = schema.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix("#/$defs/"));
        if let Some(name) = reference {
            let target = root.get("$defs").and_then(|definitions| definitions.get(name)).and_then(Value::as_object);
            match (definitions.get(name), target) {
                (Some(known), _) => node.alternatives.push(*known),
                (None, Some(target)) => {
                    // The next position is that of the target, which may refer to itself.
                    definitions.insert(name, self.nodes.len());
                    node.alternatives.push(self.add(target, root, renamed, definitions));
                }
                (None, None) => {}
            }
        }
        self.nodes[at] = node;
        at
    }

    /// Adds to `found` the nodes that may describe the same value as `at`.
    fn with_alternatives(&self, at: usize, found: &mut Vec<usize>) {
        if !found.contains(&at) {
            found.push(at);
            for alternative in &self.nodes[at].alternatives {
                self.with_alternatives(*alternative, found);
            }
        }
    }

    fn expanded(&self, nodes: impl Iterator<Item = usize>) -> Vec<usize> {
        let mut found = Vec::new();
        nodes.for_each(|at| self.with_alternatives(at, &mut found));
        found
    }

    fn root(&self) -> Vec<usize> {
        self.expanded((0..self.nodes.len()).take(1))
    }

    fn member(&self, nodes: &[usize], wire_name: &str) -> Vec<usize> {
        self.expanded(nodes.iter().filter_map(|at| {
            let node = &self.nodes[*at];
            node.properties.get(wire_name).copied().or(node.additional)
        }))
    }

    fn item(&self, nodes: &[usize]) -> Vec<usize> {
        self.expanded(nodes.iter().filter_map(|at| self.nodes[*at].items))
    }

    fn mapped(&self, nodes: &[usize], key: &str, direction: Direction) -> Option<&str> {
        nodes.iter().find_map(|at| {
            let node = &self.nodes[*at];
            let names = match direction {
                Direction::FromWire => &node.own_names,
                Direction::ToWire => &node.wire_names,
            };
            names.get(key).map(String::as_str)
        })
    }

    /// Maps the names in complete arguments.
    pub fn rewrite(self: &Arc<Self>, arguments: &str, direction: Direction) -> String {
        let mut rewriter = KeyRewriter::new(Arc::clone(self), direction);
        let mut out = String::with_capacity(arguments.len());
        rewriter.push(arguments, &mut out);
        rewriter.finish(&mut out);
        out
    }
}

/// Where the rewriter stands in a container.
#[derive(Debug)]
struct Frame {
    is_object: bool,
    /// Nodes that may describe the container.
    nodes: Vec<usize>,
    /// Nodes that may describe the value of the last key.
    value: Vec<usize>,
    expects_key: bool,
}

/// Rewrites the keys of JSON text that arrives in pieces. Text that is not JSON passes unchanged.
#[derive(Debug)]
pub struct KeyRewriter {
    names: Arc<ArgumentNames>,
    direction: Direction,
    frames: Vec<Frame>,
    in_string: bool,
    escaped: bool,
    /// A key that is not complete yet, with its opening quote.
    held: Option<String>,
    /// Nothing is rewritten any more.
    passive: bool,
}

impl KeyRewriter {
    /// Creates a rewriter for one text.
    pub fn new(names: Arc<ArgumentNames>, direction: Direction) -> Self {
        Self { names, direction, frames: Vec::new(), in_string: false, escaped: false, held: None, passive: false }
    }

    /// Appends what is known of the text after the next piece to `out`. A key is held back until it is complete.
    pub fn push(&mut self, piece: &str, out: &mut String) {
        let mut copied = 0;
        for (at, byte) in piece.bytes().enumerate() {
            if self.passive {
                break;
            }
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => {
                        self.in_string = false;
                        if let Some(mut key) = self.held.take() {
                            key.push_str(&piece[copied..=at]);
                            copied = at + 1;
                            self.key(&key, out);
                        }
                    }
                    _ => {}
                }
                continue;
            }
            if byte == b'"' {
                self.in_string = true;
                if self.frames.last().is_some_and(|frame| frame.is_object && frame.expects_key) {
                    out.push_str(&piece[copied..at]);
                    copied = at;
                    self.held = Some(String::new());
                }
            } else {
                self.structure(byte);
            }
        }
        match &mut self.held {
            Some(key) => {
                key.push_str(&piece[copied..]);
                if key.len() > MAX_KEY {
                    self.passive = true;
                    self.finish(out);
                }
            }
            None => out.push_str(&piece[copied..]),
        }
    }

    /// Appends what was held back; the text is over.
    pub fn finish(&mut self, out: &mut String) {
        if let Some(key) = self.held.take() {
            out.push_str(&key);
        }
    }

    fn structure(&mut self, byte: u8) {
        match byte {
            b'{' | b'[' => {
                let nodes = match self.frames.last() {
                    None => self.names.root(),
                    Some(frame) if frame.is_object => frame.value.clone(),
                    Some(frame) => self.names.item(&frame.nodes),
                };
                if self.frames.len() >= MAX_NESTING {
                    self.passive = true;
                    return;
                }
                let is_object = byte == b'{';
                self.frames.push(Frame { is_object, nodes, value: Vec::new(), expects_key: is_object });
            }
            b'}' | b']' => {
                self.frames.pop();
                // Only white space may follow the end of the arguments.
                self.passive = self.frames.is_empty();
            }
            b',' => {
                if let Some(frame) = self.frames.last_mut() {
                    frame.expects_key = frame.is_object;
                }
            }
            _ => {}
        }
    }

    /// Appends a complete key under its mapped name.
    fn key(&mut self, text: &str, out: &mut String) {
        let Some(frame) = self.frames.last_mut() else { return out.push_str(text) };
        frame.expects_key = false;
        let Ok(key) = serde_json::from_str::<String>(text) else { return out.push_str(text) };
        let mapped = self.names.mapped(&frame.nodes, &key, self.direction);
        let wire_name = match (mapped, self.direction) {
            (Some(wire), Direction::ToWire) => wire,
            _ => &key,
        };
        frame.value = self.names.member(&frame.nodes, wire_name);
        match mapped {
            Some(name) => out.push_str(&Value::from(name).to_string()),
            None => out.push_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names() -> Arc<ArgumentNames> {
        let schema = json!({
            "type": "object",
            "properties": {
                "required_": { "type": "boolean" },
                "data": { "type": "object", "additionalProperties": { "type": "string" } },
                "list": { "type": "array", "items": { "$ref": "#/$defs/Item" } },
                "choice": { "anyOf": [{ "type": "string" }, { "$ref": "#/$defs/Item" }] },
            },
            "$defs": { "Item": { "type": "object", "properties": {
                "ref_": { "type": "string" }, "required_": { "type": "string" }, "next": { "$ref": "#/$defs/Item" } } } },
        });
        let renamed = [("required_", "required"), ("ref_", "$ref")];
        let renamed = renamed.map(|(wire, own)| (wire.to_owned(), own.to_owned())).into_iter().collect();
        Arc::new(ArgumentNames::new(&schema, &renamed))
    }

    const WIRE: &str = r#"{"required_":true,"data":{"required_":"x"},"list":[{"ref_":"a","next":{"next":{"ref_":"\"b"}}}],"choice":{"required_":"\\"},"ref_":1}"#;
    const OWN: &str = r#"{"required":true,"data":{"required_":"x"},"list":[{"$ref":"a","next":{"next":{"$ref":"\"b"}}}],"choice":{"required":"\\"},"ref_":1}"#;

    #[test]
    fn names_are_mapped_where_they_are_declared_and_nowhere_else() {
        assert_eq!(names().rewrite(WIRE, Direction::FromWire), OWN);
        assert_eq!(names().rewrite(OWN, Direction::ToWire), WIRE);
    }

    #[test]
    fn arguments_split_anywhere_give_the_same_text() {
        for size in 1..8 {
            let mut rewriter = KeyRewriter::new(names(), Direction::FromWire);
            let mut out = String::new();
            let bytes: Vec<char> = WIRE.chars().collect();
            for piece in bytes.chunks(size) {
                rewriter.push(&piece.iter().collect::<String>(), &mut out);
            }
            rewriter.finish(&mut out);
            assert_eq!(out, OWN);
        }
    }

    #[test]
    fn escaped_keys_are_read_and_other_keys_keep_their_spelling() {
        let text = r#" { "\u0072equired_" : 1, "d\u0061ta": { } } "#;
        assert_eq!(names().rewrite(text, Direction::FromWire), r#" { "required" : 1, "d\u0061ta": { } } "#);
    }

    #[test]
    fn text_that_is_not_json_passes_unchanged() {
        let long = format!("{{\"{}", "k".repeat(5000));
        let deep = "[".repeat(100_000);
        for text in ["", "}", "{\"requi", "{\"a\" \"required_", "no", "]}{\"required_\":1}", &long, &deep] {
            assert_eq!(names().rewrite(text, Direction::FromWire), text);
        }
    }
}
