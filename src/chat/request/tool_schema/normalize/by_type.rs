//! Converts a node of one type.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::hints::{Hints, describe, own_name};
use super::normalizer::{Position, SchemaNormalizer};

impl SchemaNormalizer<'_> {
    /// Returns the schema for one type. `node` holds the keywords of this type.
    pub(super) fn member(
        &mut self,
        mut node: Map<String, Value>,
        kind: &'static str,
        values: Option<Vec<Value>>,
        place: Position<'_>,
    ) -> Map<String, Value> {
        let mut out = Map::new();
        let mut hints = Hints::default();
        out.insert("type".to_owned(), kind.into());
        if let Some(values) = values {
            out.insert("enum".to_owned(), Value::Array(values));
        }
        match kind {
            "object" => self.object(&mut node, &mut out, &mut hints, place),
            "array" => self.array(&mut node, &mut out, place),
            "string" => {
                if let Some(Value::String(pattern)) = node.get("pattern") {
                    out.insert("pattern".to_owned(), pattern.clone().into());
                    node.shift_remove("pattern");
                }
            }
            _ => {}
        }
        bounds(&mut node, &mut out, kind);
        hints.of_type(&mut node, kind);
        self.add_hints(hints, &mut out);
        out
    }

    fn object(
        &mut self,
        node: &mut Map<String, Value>,
        out: &mut Map<String, Value>,
        hints: &mut Hints,
        place: Position<'_>,
    ) {
        let mut required: Vec<String> = Vec::new();
        if let Some(Value::Array(names)) = node.shift_remove("required") {
            for name in names.iter().filter_map(Value::as_str) {
                if !required.iter().any(|known| known == name) {
                    required.push(name.to_owned());
                }
            }
        }
        let mut impossible: Vec<String> = Vec::new();
        let mut sent_names: HashMap<String, String> = HashMap::new();
        match node.shift_remove("properties") {
            Some(Value::Object(properties)) => {
                let mut converted = Map::new();
                for (name, mut property) in properties {
                    // Draft 3 says "required" at the property itself.
                    let flag =
                        property.as_object_mut().filter(|own| own.get("required").is_some_and(Value::is_boolean));
                    if let Some(Value::Bool(true)) = flag.and_then(|own| own.shift_remove("required"))
                        && !required.contains(&name)
                    {
                        required.push(name.clone());
                    }
                    match self.convert(&property, Position { depth: place.depth + 1, name: &name, root: false }) {
                        Some(mut property) => {
                            let wire = self.names.sent(&name);
                            if wire != name {
                                describe(&mut property, &own_name(&name));
                            }
                            converted.insert(wire.clone(), Value::Object(property));
                            sent_names.insert(name, wire);
                        }
                        None => impossible.push(name),
                    }
                }
                out.insert("properties".to_owned(), Value::Object(converted));
            }
            // Some servers write an empty list for an empty object.
            Some(Value::Array(empty)) if empty.is_empty() => {
                out.insert("properties".to_owned(), json!({}));
            }
            Some(Value::Null) | None => {}
            Some(_) => self.lose("properties that are no object are left out"),
        }
        required.retain(|name| !impossible.contains(name));
        let (declared, undeclared): (Vec<String>, Vec<String>) =
            required.into_iter().partition(|name| sent_names.contains_key(name));
        let declared: Vec<&String> = declared.iter().filter_map(|name| sent_names.get(name)).collect();
        hints.also_required(&undeclared);
        if !impossible.is_empty() {
            hints.sentence(format!("Not allowed: {}.", impossible.join(", ")));
        }
        if !declared.is_empty() {
            out.insert("required".to_owned(), json!(declared));
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
            (additional, patterns) => {
                if let Some(schema) = additional {
                    self.additional(schema, out, place);
                }
                if let Some(patterns) = patterns.filter(|patterns| *patterns != json!({})) {
                    hints.quoted.insert("patternProperties".to_owned(), patterns);
                }
            }
        }
    }

    fn additional(&mut self, schema: Value, out: &mut Map<String, Value>, place: Position<'_>) {
        let value = match schema {
            Value::Bool(flag) => Value::Bool(flag),
            Value::Object(members) if members.is_empty() => Value::Bool(true),
            schema => {
                let inside = Position { depth: place.depth + 1, ..place.inside() };
                self.convert(&schema, inside).map_or(Value::Bool(false), Value::Object)
            }
        };
        out.insert("additionalProperties".to_owned(), value);
    }

    /// MFJS has one schema for all items; a tuple becomes a list of its alternatives.
    fn array(&mut self, node: &mut Map<String, Value>, out: &mut Map<String, Value>, place: Position<'_>) {
        let items = node.shift_remove("items");
        let more = node.shift_remove("additionalItems");
        let (tuple, rest) = match (node.shift_remove("prefixItems"), items) {
            (Some(Value::Array(tuple)), rest) => (tuple, rest),
            (_, Some(Value::Array(tuple))) => (tuple, more),
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
        let count = tuple.len();
        let mut branches: Vec<Value> = Vec::new();
        for schema in tuple.into_iter().chain(rest.filter(|rest| !rest.is_boolean())) {
            if !branches.contains(&schema) {
                branches.push(schema);
            }
        }
        let several = branches.len() > 1;
        let schema = if several { json!({ "anyOf": branches }) } else { branches.remove(0) };
        if let Some(schema) = self.convert(&schema, place.inside()) {
            out.insert("items".to_owned(), Value::Object(schema));
            if several {
                describe(out, &format!("The first {count} items follow the listed schemas in this order."));
            }
        }
    }
}

/// Converts the bounds of a type. A bound that is no number, or that contradicts the other one, stays in the node and is quoted.
fn bounds(node: &mut Map<String, Value>, out: &mut Map<String, Value>, kind: &str) {
    let (least, most) = match kind {
        "array" => ("minItems", "maxItems"),
        "string" => ("minLength", "maxLength"),
        "number" | "integer" => ("minimum", "maximum"),
        _ => return,
    };
    let number = |word: &str| node.get(word).filter(|bound| bound.is_number()).and_then(Value::as_f64);
    let (low, high) = (number(least), number(most));
    if low.zip(high).is_some_and(|(low, high)| low > high) {
        return;
    }
    let counts = kind == "array" || kind == "string";
    for (word, bound) in [(least, low.map(f64::ceil)), (most, high.map(f64::floor))] {
        let Some(rounded) = bound else { continue };
        if counts && rounded < 0.0 {
            // Nothing is shorter than nothing; an upper bound below zero allows no value and is quoted.
            if word == least {
                node.shift_remove(word);
            }
            continue;
        }
        let Some(value) = node.shift_remove(word) else { continue };
        let whole = counts || kind == "integer";
        let value = if whole && value.as_f64() != Some(rounded) { whole_number(rounded) } else { value };
        out.entry(word).or_insert(value);
    }
    // Rounding may have crossed the bounds; then no integer lies between them.
    let number = |word: &str| out.get(word).and_then(Value::as_f64);
    if number(least).zip(number(most)).is_some_and(|(low, high)| low > high) {
        for word in [least, most] {
            if let Some(bound) = out.shift_remove(word) {
                node.insert(word.to_owned(), bound);
            }
        }
    }
}

/// The cast saturates, which keeps bounds beyond any integer.
fn whole_number(rounded: f64) -> Value {
    Value::from(rounded as i64)
}
