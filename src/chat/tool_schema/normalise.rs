//! Any JSON Schema → the subset.
//!
//! One walk over the schema. A word that has an equivalent is replaced by it; a word that only narrows what is valid moves into
//! the description, where the model reads it; a part that cannot be said at all becomes an open object, and the person hears
//! of it. References stay references, gathered in `$defs` of the root, because expanding them is what makes schemas explode.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::cache::Normalised;
use super::combine::merge;
use super::shrink::shrink;
use super::{MAX_DEPTH, MAX_VALUES, fallback, keywords, problem, references, types};
use crate::error::clip;

/// Schema nodes that are looked at before the rest counts as too much.
const MAX_WORK: usize = 20_000;

/// Longest constraint that is quoted in a description, in characters.
const MAX_QUOTED: usize = 400;

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

    /// A schema of the subset that means the same. `None`: nothing is valid.
    pub fn convert(&mut self, schema: &Value, place: Place<'_>) -> Option<Map<String, Value>> {
        self.work += 1;
        match schema {
            _ if self.work > MAX_WORK => {
                self.lose("its schema is too large");
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
    pub fn node(&mut self, mut node: Map<String, Value>, place: Place<'_>) -> Option<Map<String, Value>> {
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

    /// A node that consisted of a reference and `siblings`, which the subset does not allow.
    fn referring(
        &mut self,
        reference: &str,
        siblings: Map<String, Value>,
        place: Place<'_>,
    ) -> Option<Map<String, Value>> {
        let Some(target) = references::target(self.source, reference) else {
            self.lose(format!("the reference {} leads nowhere", clip(reference, 80)));
            let mut rest = siblings;
            if rest.keys().all(|word| keywords::is_annotation(word)) {
                rest.insert("type".to_owned(), "object".into());
            }
            return self.node(rest, place);
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
            let mut out = Map::new();
            if let Some(description) = siblings.get("description").filter(|text| text.is_string()) {
                out.insert("description".to_owned(), description.clone());
            }
            out.insert("anyOf".to_owned(), json!([self.reference_to(reference, target)]));
            return Some(out);
        }
        let mut merged = match target {
            Value::Object(members) => members.clone(),
            Value::Bool(false) => return None,
            _ => Map::new(),
        };
        // What is said at the place of use is closer to the point than what the definition says.
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

    /// `{"$ref": …}` into `$defs` of the root, where the target is put the first time.
    fn reference_to(&mut self, reference: &str, target: &Value) -> Map<String, Value> {
        let name = match self.names.get(reference) {
            Some(name) => name.clone(),
            None => {
                let name = self.definition_name(reference);
                self.names.insert(reference.to_owned(), name.clone());
                // Keeps its place while the target, which may refer to itself, is converted.
                self.definitions.insert(name.clone(), Value::Null);
                let around = std::mem::replace(&mut self.expanding, vec![reference.to_owned()]);
                let converted = self.convert(target, Place { depth: 0, name: "", root: false });
                self.expanding = around;
                self.definitions.insert(name.clone(), Value::Object(converted.unwrap_or_else(|| object(""))));
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

    /// A part of `allOf` or `anyOf` with its reference followed, where it can be merged with what stands around it.
    pub fn resolved(&self, schema: Value) -> Value {
        let mut schema = schema;
        for _ in 0..16 {
            let Value::Object(mut node) = schema else { return schema };
            let Some(reference) = node.get("$ref").and_then(Value::as_str).map(str::to_owned) else {
                return Value::Object(node);
            };
            node.shift_remove("$ref");
            let mut merged = match references::target(self.source, &reference) {
                Some(Value::Object(members)) => members.clone(),
                Some(Value::Bool(false)) => return Value::Bool(false),
                _ => Map::new(),
            };
            merge(&mut merged, node);
            schema = Value::Object(merged);
        }
        Value::Bool(true)
    }

    /// The values of an enumeration, as far as they can be listed, and the types that fit them.
    fn values(
        &mut self,
        node: &mut Map<String, Value>,
        kinds: &mut Vec<&'static str>,
        hints: &mut Hints,
    ) -> Option<Vec<Value>> {
        let Some(Value::Array(listed)) = node.shift_remove("enum") else { return None };
        let mut values: Vec<Value> = Vec::with_capacity(listed.len());
        for value in listed {
            if !values.contains(&value) {
                values.push(value);
            }
        }
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

    fn assemble(
        &mut self,
        mut node: Map<String, Value>,
        kinds: &[&'static str],
        mut hints: Hints,
        place: Place<'_>,
    ) -> Map<String, Value> {
        let mut out = Map::new();
        let kind = if let [one] = kinds { Value::from(*one) } else { json!(kinds) };
        out.insert("type".to_owned(), kind);
        let description = described(&mut node, place.name);
        for word in ["enum", "default"] {
            if let Some(value) = node.shift_remove(word) {
                out.insert(word.to_owned(), value);
            }
        }
        if kinds.contains(&"object") {
            self.object(&mut node, &mut out, &mut hints, place);
        }
        if kinds.contains(&"array") {
            self.array(&mut node, &mut out, place);
        }
        let numeric = kinds.contains(&"number") || kinds.contains(&"integer");
        for (word, applies) in [
            ("minItems", kinds.contains(&"array")),
            ("maxItems", kinds.contains(&"array")),
            ("minLength", kinds.contains(&"string")),
            ("maxLength", kinds.contains(&"string")),
            ("minimum", numeric),
            ("maximum", numeric),
        ] {
            match node.shift_remove(word) {
                Some(bound) if applies && bound.is_number() => {
                    out.entry(word).or_insert(bound);
                }
                _ => {}
            }
        }
        if kinds.contains(&"string")
            && let Some(Value::String(pattern)) = node.shift_remove("pattern")
        {
            out.insert("pattern".to_owned(), pattern.into());
        }
        hints.rest(node, kinds);
        if let Some(description) = hints.append_to(description) {
            out.insert("description".to_owned(), description.into());
        }
        out
    }

    fn object(
        &mut self,
        node: &mut Map<String, Value>,
        out: &mut Map<String, Value>,
        hints: &mut Hints,
        place: Place<'_>,
    ) {
        let mut required: Vec<String> = Vec::new();
        let mut impossible: Vec<String> = Vec::new();
        if let Some(Value::Array(names)) = node.shift_remove("required") {
            for name in names.iter().filter_map(Value::as_str) {
                if !required.iter().any(|known| known == name) {
                    required.push(name.to_owned());
                }
            }
        }
        if let Some(Value::Object(properties)) = node.shift_remove("properties") {
            let mut converted = Map::new();
            for (name, mut property) in properties {
                // Draft 3 says "required" at the property itself.
                let flag = property.as_object_mut().filter(|own| own.get("required").is_some_and(Value::is_boolean));
                if let Some(Value::Bool(true)) = flag.and_then(|own| own.shift_remove("required"))
                    && !required.contains(&name)
                {
                    required.push(name.clone());
                }
                match self.convert(&property, Place { depth: place.depth + 1, name: &name, root: false }) {
                    Some(property) => {
                        converted.insert(name, Value::Object(property));
                    }
                    None => impossible.push(name),
                }
            }
            required.retain(|name| !impossible.contains(name));
            let stray: Vec<String> = required.iter().filter(|name| !converted.contains_key(*name)).cloned().collect();
            required.retain(|name| converted.contains_key(name));
            out.insert("properties".to_owned(), Value::Object(converted));
            hints.stray(stray);
        } else if !required.is_empty() {
            hints.stray(std::mem::take(&mut required));
        }
        if !required.is_empty() {
            out.insert("required".to_owned(), json!(required));
        }
        let additional = node.shift_remove("additionalProperties");
        let patterns = node.shift_remove("patternProperties");
        match (additional, patterns) {
            (None | Some(Value::Bool(_)), Some(Value::Object(patterns))) if !patterns.is_empty() => {
                hints.sentence(format!(
                    "Names of further members match {}.",
                    patterns.keys().map(|name| format!("/{name}/")).collect::<Vec<_>>().join(" or ")
                ));
                let branches: Vec<Value> = patterns.into_iter().map(|(_, schema)| schema).collect();
                let schema = if let [one] = branches.as_slice() { one.clone() } else { json!({ "anyOf": branches }) };
                self.additional(schema, out, place);
            }
            (Some(schema), _) => self.additional(schema, out, place),
            (None, _) => {}
        }
    }

    fn additional(&mut self, schema: Value, out: &mut Map<String, Value>, place: Place<'_>) {
        let value = match schema {
            Value::Bool(flag) => Value::Bool(flag),
            Value::Object(members) if members.is_empty() => Value::Bool(true),
            schema => {
                let inside = Place { depth: place.depth + 1, ..place.inside() };
                self.convert(&schema, inside).map_or(Value::Bool(false), Value::Object)
            }
        };
        out.insert("additionalProperties".to_owned(), value);
    }

    /// The subset knows one schema for all items; a tuple becomes a list of its alternatives.
    fn array(&mut self, node: &mut Map<String, Value>, out: &mut Map<String, Value>, place: Place<'_>) {
        let items = node.shift_remove("items");
        let (tuple, rest) = match (node.shift_remove("prefixItems"), items) {
            (Some(Value::Array(tuple)), rest) => (tuple, rest),
            (_, Some(Value::Array(tuple))) => (tuple, node.shift_remove("additionalItems")),
            (_, rest) => (Vec::new(), rest),
        };
        if tuple.is_empty() {
            match rest.map(|schema| self.convert(&schema, place.inside())) {
                Some(Some(schema)) => {
                    out.insert("items".to_owned(), Value::Object(schema));
                }
                Some(None) => {
                    out.insert("maxItems".to_owned(), 0.into());
                }
                None => {}
            }
            return;
        }
        if rest == Some(Value::Bool(false)) {
            out.insert("maxItems".to_owned(), tuple.len().into());
        }
        let mut branches: Vec<Value> = Vec::new();
        for schema in tuple.into_iter().chain(rest.filter(|rest| !rest.is_boolean())) {
            if !branches.contains(&schema) {
                branches.push(schema);
            }
        }
        let schema = if let [one] = branches.as_slice() { one.clone() } else { json!({ "anyOf": branches }) };
        if let Some(schema) = self.convert(&schema, place.inside()) {
            out.insert("items".to_owned(), Value::Object(schema));
        }
    }
}

fn own_is_null_only(kinds: &[&str]) -> bool {
    kinds == ["null"]
}

/// Values of several types: one branch for each, unless it is one type and null.
fn split_by_type(values: &[Value], node: &Map<String, Value>) -> Option<Map<String, Value>> {
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

/// The description; a title takes its place unless it merely repeats the name of the property, as generated ones do.
pub fn described(node: &mut Map<String, Value>, name: &str) -> Option<String> {
    let plain = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).collect::<String>().to_lowercase();
    let title = node.shift_remove("title");
    match (node.shift_remove("description"), title) {
        (Some(Value::String(description)), _) if !description.is_empty() => Some(description),
        (_, Some(Value::String(title))) if !name.is_empty() && plain(&title) != plain(name) => Some(title),
        _ => None,
    }
}

/// What goes into the description because the subset has no word for it.
#[derive(Default)]
pub struct Hints {
    sentences: Vec<String>,
    /// Members that are quoted as they are.
    pub also: Map<String, Value>,
}

impl Hints {
    /// Adds a sentence.
    pub fn sentence(&mut self, sentence: String) {
        self.sentences.push(sentence);
    }

    fn stray(&mut self, names: Vec<String>) {
        if !names.is_empty() {
            self.sentence(format!("Also required: {}.", names.join(", ")));
        }
    }

    /// Takes everything that is left of a node.
    fn rest(&mut self, mut node: Map<String, Value>, kinds: &[&str]) {
        if let Some(Value::String(format)) = node.shift_remove("format") {
            self.sentence(format!("Format: {format}."));
        }
        let examples = node.shift_remove("examples").or_else(|| node.shift_remove("example"));
        if let Some(examples) = examples.filter(|examples| !examples.is_object()) {
            self.sentence(format!("Examples: {}.", clip(&examples.to_string(), 200)));
        }
        let foreign = |word: &str| {
            (keywords::OBJECT.contains(&word) && !kinds.contains(&"object"))
                || (keywords::ARRAY.contains(&word) && !kinds.contains(&"array"))
                || (keywords::STRING.contains(&word) && !kinds.contains(&"string"))
                || (keywords::NUMBER.contains(&word) && !kinds.contains(&"number") && !kinds.contains(&"integer"))
        };
        for (word, value) in node {
            let silent = keywords::is_annotation(&word)
                || matches!(word.as_str(), "type" | "nullable" | "additionalItems" | "$ref" | "required" | "pattern")
                || foreign(&word);
            if !silent {
                self.also.insert(word, value);
            }
        }
    }

    /// The description with everything added.
    pub fn append_to(mut self, description: Option<String>) -> Option<String> {
        if !self.also.is_empty() {
            let quoted = clip(&Value::Object(std::mem::take(&mut self.also)).to_string(), MAX_QUOTED);
            self.sentence(format!("Also applies: {quoted}"));
        }
        let mut pieces: Vec<String> = description.into_iter().collect();
        pieces.append(&mut self.sentences);
        (!pieces.is_empty()).then(|| pieces.join(" "))
    }
}
