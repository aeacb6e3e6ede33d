//! A node whose types are known → its members in the subset.

use serde_json::{Map, Value, json};

use super::hints::{Hints, described};
use super::{Normaliser, Place};

impl Normaliser<'_> {
    pub(super) fn assemble(
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
                // BodyTemplate 3 says "required" at the property itself.
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
