//! Converts `anyOf` and `oneOf`: several schemas for one place.

use serde_json::{Map, Value, json};

use super::hints::{Hints, describe};
use super::merge::merge;
use super::normalizer::{Position, SchemaNormalizer, anything};
use crate::chat::request::tool_schema::keywords;
use crate::chat::request::tool_schema::limits::{MAX_BRANCHES, MAX_UNMEASURED_VALUES, MAX_VALUES};

impl SchemaNormalizer<'_> {
    /// Converts a choice. Nothing but a description may stand beside it, so the rest of the node goes into each branch.
    pub(super) fn alternatives(
        &mut self,
        mut node: Map<String, Value>,
        mut branches: Vec<Value>,
        place: Position<'_>,
    ) -> Option<Map<String, Value>> {
        let mut notes = Map::new();
        for word in ["title", "description", "default"] {
            if let Some(value) = node.shift_remove(word) {
                notes.insert(word.to_owned(), value);
            }
        }
        let mut hints = Hints::default();
        if let Some(examples) = node.shift_remove("examples").or_else(|| node.shift_remove("example")) {
            hints.of_any_type(&mut Map::from_iter([("examples".to_owned(), examples)]));
        }
        if node.shift_remove("nullable") == Some(Value::Bool(true)) {
            branches.push(json!({ "type": "null" }));
        }
        node.retain(|word, _| !keywords::is_annotation(word));
        if (!node.is_empty() || place.root) && branches.iter().all(is_narrowing) {
            node.append(&mut notes);
            let sets: Vec<String> = branches.iter().map(|branch| self.required_set(branch)).collect();
            hints.sentence(format!("One of these is needed: {}.", sets.join(" or ")));
            let mut out = self.node(node, place)?;
            self.add_hints(hints, &mut out);
            return Some(out);
        }
        let mut converted: Vec<Map<String, Value>> = Vec::new();
        let around = Value::Object(node.clone());
        for branch in branches {
            let branch = if node.is_empty() && !place.root {
                branch
            } else if !self.affords(&around) {
                break;
            } else {
                let mut merged = node.clone();
                match self.resolved(branch) {
                    Value::Bool(false) => continue,
                    Value::Object(own) => merge(&mut merged, own),
                    _ => {}
                }
                Value::Object(merged)
            };
            let place = Position { name: "", ..place };
            let Some(schema) = self.convert(&branch, place) else { continue };
            match schema.get("anyOf") {
                Some(Value::Array(inner)) if schema.len() == 1 => {
                    let inner: Vec<_> = inner.iter().filter_map(|one| one.as_object().cloned()).collect();
                    converted.extend(inner.into_iter().filter(|one| !one.is_empty()));
                }
                _ => converted.push(schema),
            }
        }
        let mut distinct: Vec<Map<String, Value>> = Vec::new();
        for schema in converted {
            // More cannot be expressed anyway, neither as branches nor as one list of values.
            if distinct.len() <= MAX_VALUES && !distinct.contains(&schema) {
                distinct.push(schema);
            }
        }
        let mut out = if place.root { self.united(distinct)? } else { self.listed(distinct)? };
        self.annotate(&mut out, &mut notes, place);
        self.add_hints(hints, &mut out);
        Some(out)
    }

    /// Returns the branches as one schema.
    fn listed(&mut self, mut branches: Vec<Map<String, Value>>) -> Option<Map<String, Value>> {
        if let Some(values) = one_enumeration(&branches) {
            branches = vec![values];
        }
        if branches.len() > MAX_BRANCHES {
            self.lose(format!("a choice of more than {MAX_BRANCHES} branches is left open"));
            return Some(anything());
        }
        if branches.len() < 2 {
            return branches.pop();
        }
        Some(Map::from_iter([("anyOf".to_owned(), branches.into_iter().map(Value::Object).collect())]))
    }

    /// The root must be one object: it takes every member that some branch has, and requires what all branches require.
    fn united(&mut self, branches: Vec<Map<String, Value>>) -> Option<Map<String, Value>> {
        let objects: Vec<Map<String, Value>> =
            branches.into_iter().filter(|branch| branch.get("type").is_some_and(|kind| kind == "object")).collect();
        if objects.is_empty() {
            return None;
        }
        let mut properties = Map::new();
        let mut required: Option<Vec<Value>> = None;
        let mut sets: Vec<String> = Vec::new();
        let mut descriptions: Vec<&str> = Vec::new();
        for branch in &objects {
            for (name, property) in branch.get("properties").and_then(Value::as_object).into_iter().flatten() {
                let known = properties.entry(name.as_str()).or_insert_with(|| property.clone());
                if known != property {
                    *known = either(known.take(), property.clone());
                }
            }
            let own = branch.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
            sets.push(self.required_set(&Value::Object(branch.clone())));
            descriptions.extend(branch.get("description").and_then(Value::as_str));
            required = Some(match required {
                None => own,
                Some(known) => known.into_iter().filter(|name| own.contains(name)).collect(),
            });
        }
        let additional = |branch: &Map<String, Value>| branch.get("additionalProperties").cloned();
        let first = additional(&objects[0]);
        let mut out = Map::new();
        out.insert("type".to_owned(), "object".into());
        out.insert("properties".to_owned(), Value::Object(properties));
        if let Some(required) = required.filter(|required| !required.is_empty()) {
            out.insert("required".to_owned(), Value::Array(required));
        }
        if let Some(value) =
            first.filter(|value| objects.iter().all(|branch| additional(branch).as_ref() == Some(value)))
        {
            out.insert("additionalProperties".to_owned(), value);
        }
        descriptions.dedup();
        if !descriptions.is_empty() {
            describe(&mut out, &descriptions.join(" Or: "));
        }
        sets.dedup();
        if sets.len() > 1 {
            describe(&mut out, &format!("One of these is needed: {}.", sets.join(" or ")));
        }
        Some(out)
    }

    /// Returns what a branch requires in words: its required members, with their value where only one is possible.
    fn required_set(&mut self, branch: &Value) -> String {
        let names: Vec<String> = branch
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(|name| {
                let values = branch.get("properties").and_then(|own| own.get(name)).and_then(|own| own.get("enum"));
                match values.and_then(Value::as_array).map(Vec::as_slice) {
                    Some([only]) => format!("{name}={only}"),
                    _ => self.names.sent(name),
                }
            })
            .collect();
        match branch.get("not") {
            Some(not) => format!("not {not}"),
            None if names.is_empty() => "none of the others".to_owned(),
            None => format!("({})", names.join(", ")),
        }
    }
}

/// Returns whether a branch only requires or excludes members.
fn is_narrowing(branch: &Value) -> bool {
    branch.as_object().is_some_and(|branch| {
        branch.keys().all(|word| keywords::is_annotation(word) || matches!(word.as_str(), "required" | "not"))
    })
}

/// Joins two converted schemas of one member.
fn either(one: Value, other: Value) -> Value {
    let (Value::Object(mut one), Value::Object(other)) = (one, other) else { return Value::Object(anything()) };
    let pair = [one.clone(), other.clone()];
    if let Some(mut united) = one_enumeration(&pair.map(|mut schema| {
        schema.shift_remove("description");
        schema
    })) {
        if let Some(description) = one.shift_remove("description") {
            united.insert("description".to_owned(), description);
        }
        return Value::Object(united);
    }
    let mut branches: Vec<Value> = Vec::new();
    for schema in [one, other] {
        match schema.get("anyOf") {
            Some(Value::Array(inner)) if schema.len() == 1 => branches.extend(inner.iter().cloned()),
            _ => branches.push(Value::Object(schema)),
        }
    }
    let mut distinct: Vec<Value> = Vec::new();
    for branch in branches {
        if !distinct.contains(&branch) {
            distinct.push(branch);
        }
    }
    json!({ "anyOf": distinct })
}

/// Joins branches that only list values of one type.
fn one_enumeration(branches: &[Map<String, Value>]) -> Option<Map<String, Value>> {
    let (first, rest) = branches.split_first().filter(|(_, rest)| !rest.is_empty())?;
    let plain = |branch: &Map<String, Value>| branch.len() == 2 && branch.contains_key("enum");
    let kind = first.get("type").filter(|kind| kind.is_string())?;
    if !plain(first) || !rest.iter().all(|branch| plain(branch) && branch.get("type") == Some(kind)) {
        return None;
    }
    let mut values: Vec<Value> = Vec::new();
    for value in branches.iter().filter_map(|branch| branch["enum"].as_array()).flatten() {
        if !values.contains(value) {
            values.push(value.clone());
        }
    }
    // More values have to stay in branches of their own.
    if values.len() > MAX_UNMEASURED_VALUES {
        return None;
    }
    let mut out = Map::new();
    out.insert("type".to_owned(), kind.clone());
    out.insert("enum".to_owned(), Value::Array(values));
    Some(out)
}
