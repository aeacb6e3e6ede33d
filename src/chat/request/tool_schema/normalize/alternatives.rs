//! `allOf` and `anyOf`: several schemas for one place.

use serde_json::{Map, Value, json};

use super::keywords;
use super::normalize::{Hints, Normaliser, Place, anything, described};
use super::{MAX_BRANCHES, MAX_VALUES};

/// Adds the demands of `more` to `base`, which then asks for both.
pub fn merge(base: &mut Map<String, Value>, more: Map<String, Value>) {
    for (word, value) in more {
        let Some(known) = base.get_mut(&word) else {
            base.insert(word, value);
            continue;
        };
        match (word.as_str(), &mut *known, value) {
            ("properties", Value::Object(known), Value::Object(properties)) => {
                for (name, property) in properties {
                    match known.get_mut(&name) {
                        Some(own) if *own != property => demand_both(own, property),
                        Some(_) => {}
                        None => {
                            known.insert(name, property);
                        }
                    }
                }
            }
            ("required", Value::Array(known), Value::Array(names)) => {
                for name in names {
                    if !known.contains(&name) {
                        known.push(name);
                    }
                }
            }
            ("type" | "enum", known, value) => *known = common(known, value),
            ("minimum" | "minLength" | "minItems" | "minProperties", known, value) => {
                if value.as_f64() > known.as_f64() {
                    *known = value;
                }
            }
            ("maximum" | "maxLength" | "maxItems" | "maxProperties", known, value) => {
                if value.as_f64() < known.as_f64() {
                    *known = value;
                }
            }
            ("allOf", Value::Array(known), Value::Array(parts)) => known.extend(parts),
            ("anyOf" | "oneOf", _, value) => {
                let part = json!({ "anyOf": value });
                match base.get_mut("allOf") {
                    Some(Value::Array(parts)) => parts.push(part),
                    _ => {
                        base.insert("allOf".to_owned(), json!([part]));
                    }
                }
            }
            ("items", known, value) if *known != value => demand_both(known, value),
            ("description" | "title" | "default" | "$defs" | "definitions", _, _) => {}
            (_, known, value) => *known = value,
        }
    }
}

/// Both schemas at once. Side by side and not one within the other: thousands of parts must not nest thousands of levels deep.
fn demand_both(known: &mut Value, more: Value) {
    match known.as_object_mut().filter(|own| own.len() == 1).and_then(|own| own.get_mut("allOf")) {
        Some(Value::Array(parts)) => parts.push(more),
        _ => *known = json!({ "allOf": [known.take(), more] }),
    }
}

/// What two lists (or single words) have in common; the second one where that is nothing.
fn common(known: &Value, more: Value) -> Value {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
    let (known, wanted) = (list(known), list(&more));
    let integers = |value: &Value| value == "integer" && known.contains(&Value::from("number"));
    let mut both: Vec<Value> =
        wanted.iter().filter(|value| known.contains(value) || integers(value)).cloned().collect();
    match both.len() {
        0 => more,
        1 if more.is_string() => both.remove(0),
        _ => Value::Array(both),
    }
}

impl Normaliser<'_> {
    /// `anyOf`: nothing but a description may stand beside it, so the rest of the node goes into each branch.
    pub fn alternatives(
        &mut self,
        mut node: Map<String, Value>,
        branches: Vec<Value>,
        place: Place<'_>,
    ) -> Option<Map<String, Value>> {
        let mut annotations = Map::new();
        for word in ["title", "description", "default"] {
            if let Some(value) = node.shift_remove(word) {
                annotations.insert(word.to_owned(), value);
            }
        }
        node.retain(|word, _| !keywords::is_annotation(word) && word != "nullable");
        let narrowing = |branch: &Value| {
            branch.as_object().is_some_and(|branch| {
                branch.keys().all(|word| keywords::is_annotation(word) || matches!(word.as_str(), "required" | "not"))
            })
        };
        if (!node.is_empty() || place.root) && branches.iter().all(narrowing) {
            node.append(&mut annotations);
            let mut hints = Hints::default();
            let sets: Vec<String> = branches.iter().map(demanded).collect();
            hints.sentence(format!("One of these is needed: {}.", sets.join(" or ")));
            let mut out = self.node(node, place)?;
            let said = out.shift_remove("description").and_then(|text| text.as_str().map(str::to_owned));
            if let Some(description) = hints.append_to(said) {
                out.insert("description".to_owned(), description.into());
            }
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
            let place = Place { name: "", ..place };
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
            // More cannot be said anyway, neither as branches nor as one list of values.
            if distinct.len() <= MAX_VALUES && !distinct.contains(&schema) {
                distinct.push(schema);
            }
        }
        if place.root { self.united(distinct, annotations) } else { self.listed(distinct, annotations, place) }
    }

    /// Branches as the subset has them.
    fn listed(
        &mut self,
        mut branches: Vec<Map<String, Value>>,
        mut annotations: Map<String, Value>,
        place: Place<'_>,
    ) -> Option<Map<String, Value>> {
        let description = described(&mut annotations, place.name);
        if let Some(values) = one_enumeration(&branches) {
            branches = vec![values];
        }
        let mut out = match branches.len() {
            0 => return None,
            1 if description.is_none() || !branches[0].contains_key("$ref") => branches.remove(0),
            count if count > MAX_BRANCHES => {
                self.lose(format!("a choice of more than {MAX_BRANCHES} branches is left open"));
                anything()
            }
            _ => {
                let mut out = Map::new();
                let beside = annotations.contains_key("default");
                let branches = branches.into_iter().map(|mut branch| {
                    if beside {
                        branch.shift_remove("default");
                    }
                    Value::Object(branch)
                });
                out.insert("anyOf".to_owned(), branches.collect());
                out
            }
        };
        if let Some(description) = description {
            out.insert("description".to_owned(), description.into());
        }
        if let Some(default) = annotations.shift_remove("default").filter(|_| !out.contains_key("$ref")) {
            out.insert("default".to_owned(), default);
        }
        Some(out)
    }

    /// The root has to be one object: it takes every member that some branch has, and demands what all branches demand.
    fn united(
        &mut self,
        branches: Vec<Map<String, Value>>,
        mut annotations: Map<String, Value>,
    ) -> Option<Map<String, Value>> {
        let objects: Vec<Map<String, Value>> =
            branches.into_iter().filter(|branch| branch.get("type").is_some_and(|kind| kind == "object")).collect();
        let mut properties = Map::new();
        let mut required: Option<Vec<Value>> = None;
        let mut sets: Vec<String> = Vec::new();
        for branch in &objects {
            for (name, property) in branch.get("properties").and_then(Value::as_object).into_iter().flatten() {
                let known = properties.entry(name.as_str()).or_insert_with(|| property.clone());
                if known != property {
                    *known = either(known.take(), property.clone());
                }
            }
            let own = branch.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
            sets.push(demanded(&Value::Object(branch.clone())));
            required = Some(match required {
                None => own,
                Some(known) => known.into_iter().filter(|name| own.contains(name)).collect(),
            });
        }
        let closed = !objects.is_empty()
            && objects.iter().all(|branch| branch.get("additionalProperties") == Some(&Value::Bool(false)));
        let mut out = Map::new();
        out.insert("type".to_owned(), "object".into());
        let mut hints = Hints::default();
        sets.dedup();
        if sets.len() > 1 {
            hints.sentence(format!("One of these is needed: {}.", sets.join(" or ")));
        }
        if let Some(description) = hints.append_to(described(&mut annotations, "")) {
            out.insert("description".to_owned(), description.into());
        }
        out.insert("properties".to_owned(), Value::Object(properties));
        if let Some(required) = required.filter(|required| !required.is_empty()) {
            out.insert("required".to_owned(), Value::Array(required));
        }
        if closed {
            out.insert("additionalProperties".to_owned(), false.into());
        }
        Some(out)
    }
}

/// What a branch asks for, in words: its required members, with their value where only one is possible.
fn demanded(branch: &Value) -> String {
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
                _ => name.to_owned(),
            }
        })
        .collect();
    match branch.get("not") {
        Some(not) => format!("not {not}"),
        None if names.is_empty() => "none of the others".to_owned(),
        None => format!("({})", names.join(", ")),
    }
}

/// Two converted schemas of one member.
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

/// Branches that only list values of one type are one list.
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
    let mut out = Map::new();
    out.insert("type".to_owned(), kind.clone());
    out.insert("enum".to_owned(), Value::Array(values));
    Some(out)
}
