//! Shortens schemas that are too long.
//!
//! The limit counts the text before references are expanded. So a part that occurs often moves to `$defs`, and a definition that
//! is used once moves back to its place. If that is not enough, the longest descriptions move into the description of the
//! tool, which has no limit (docs/protocol.md#tool-schema-size).

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::limits::MAX_BYTES;
use super::mfjs::has_slash;
use super::validate::misfit;

/// Shortest part that is replaced by a reference, in bytes.
const MIN_PART: usize = 50;

/// Longest schema that is searched, in bytes: a longer one cannot become short enough.
const MAX_SEARCHED: usize = 300_000;

/// Most parts that are moved to `$defs`, or back from there.
const MAX_PARTS: usize = 100;

/// Returns the schema, shortened if necessary, and the text that moves into the tool's description.
pub fn shrink(schema: Value) -> (Value, String) {
    let mut schema = schema;
    if fits(&schema) || schema.to_string().len() > MAX_SEARCHED {
        return (schema, String::new());
    }
    inline_single_uses(&mut schema);
    for number in 0..MAX_PARTS {
        if fits(&schema) || !factor_out(&mut schema, number) {
            break;
        }
    }
    let hint = if fits(&schema) { String::new() } else { move_descriptions(&mut schema) };
    (schema, hint)
}

fn fits(schema: &Value) -> bool {
    schema.to_string().len() <= MAX_BYTES
}

/// Calls `visit` for each schema inside `node`, outermost first, with the members on the way to it.
fn visit(node: &mut Value, path: &str, visitor: &mut dyn FnMut(&mut Value, &str)) {
    let Some(members) = node.as_object_mut() else { return };
    for word in ["properties", "$defs"] {
        for (name, child) in members.get_mut(word).and_then(Value::as_object_mut).into_iter().flatten() {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            visitor(child, &path);
            visit(child, &path, visitor);
        }
    }
    for (word, suffix) in [("items", "[]"), ("additionalProperties", ".*")] {
        if let Some(child) = members.get_mut(word).filter(|child| child.is_object()) {
            let path = format!("{path}{suffix}");
            visitor(child, &path);
            visit(child, &path, visitor);
        }
    }
    for child in members.get_mut("anyOf").and_then(Value::as_array_mut).into_iter().flatten() {
        visitor(child, path);
        visit(child, path, visitor);
    }
}

/// Moves the part that saves most to `$defs`. Returns whether there was one.
fn factor_out(schema: &mut Value, number: usize) -> bool {
    let mut counts: HashMap<String, usize> = HashMap::new();
    let mut order: Vec<String> = Vec::new();
    visit(schema, "", &mut |node, _| {
        let text = node.to_string();
        if text.len() >= MIN_PART && node.get("$ref").is_none() && !has_slash(node) {
            let count = counts.entry(text.clone()).or_insert(0);
            *count += 1;
            if *count == 2 {
                order.push(text);
            }
        }
    });
    let name = free_name(schema, number);
    let reference = json!({ "$ref": format!("#/$defs/{name}") });
    let reference_length = reference.to_string().len();
    let saving = |text: &String| {
        let uses = counts.get(text).copied().unwrap_or(0);
        (uses * text.len()).saturating_sub(text.len() + name.len() + 4 + uses * reference_length)
    };
    // Among equal savings the first in the schema wins, so that the result does not depend on hashing.
    let best = order.iter().rev().max_by_key(|text| saving(text)).filter(|text| saving(text) > 0);
    let Some(best) = best else { return false };
    let Ok(part) = serde_json::from_str::<Value>(best) else { return false };
    visit(schema, "", &mut |node, _| {
        if node.is_object() && *node == part {
            *node = reference.clone();
        }
    });
    if let Some(root) = schema.as_object_mut() {
        let definitions = root.entry("$defs").or_insert_with(|| Value::Object(Map::new()));
        if let Some(definitions) = definitions.as_object_mut() {
            definitions.insert(name, part);
        }
    }
    true
}

fn free_name(schema: &Value, number: usize) -> String {
    let taken = |name: &str| schema.get("$defs").is_some_and(|definitions| definitions.get(name).is_some());
    (number..).map(|number| format!("d{number}")).find(|name| !taken(name)).unwrap_or_default()
}

/// Moves definitions that are used once back to their place, unless that breaks a rule.
fn inline_single_uses(schema: &mut Value) {
    let mut uses: HashMap<String, usize> = HashMap::new();
    visit(schema, "", &mut |node, _| {
        if let Some(name) = node.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix("#/$defs/")) {
            *uses.entry(name.to_owned()).or_insert(0) += 1;
        }
    });
    let names: Vec<String> = schema
        .get("$defs")
        .and_then(Value::as_object)
        .into_iter()
        .flat_map(|definitions| definitions.keys())
        .filter(|name| uses.get(*name) == Some(&1))
        .take(MAX_PARTS)
        .cloned()
        .collect();
    for name in names {
        let mut candidate = schema.clone();
        let reference = format!("#/$defs/{name}");
        let Some(definitions) = candidate.get_mut("$defs").and_then(Value::as_object_mut) else { return };
        let Some(definition) = definitions.shift_remove(&name) else { continue };
        if definitions.is_empty()
            && let Some(root) = candidate.as_object_mut()
        {
            root.shift_remove("$defs");
        }
        let mut placed = false;
        visit(&mut candidate, "", &mut |node, _| {
            if !placed && node.get("$ref").is_some_and(|own| *own == *reference) {
                *node = definition.clone();
                placed = true;
            }
        });
        // A definition that uses itself is not placed, and one that now lies too deep breaks a rule.
        let acceptable = placed && misfit(&candidate).is_none();
        if acceptable {
            *schema = candidate;
        }
    }
}

/// Takes out the longest descriptions until the schema fits.
fn move_descriptions(schema: &mut Value) -> String {
    let mut found: Vec<(String, String)> = Vec::new();
    visit(schema, "", &mut |node, path| {
        if let Some(text) = node.get("description").and_then(Value::as_str).filter(|text| text.len() > 20) {
            found.push((path.to_owned(), text.to_owned()));
        }
    });
    let mut by_length: Vec<usize> = (0..found.len()).collect();
    by_length.sort_by_key(|at| std::cmp::Reverse(found[*at].1.len()));
    let mut excess = schema.to_string().len().saturating_sub(MAX_BYTES);
    let mut moved: Vec<usize> = Vec::new();
    for at in by_length {
        if excess == 0 {
            break;
        }
        excess = excess.saturating_sub(Value::from(found[at].1.as_str()).to_string().len() + 14);
        moved.push(at);
    }
    let mut position = 0;
    visit(schema, "", &mut |node, _| {
        if node.get("description").and_then(Value::as_str).is_some_and(|text| text.len() > 20) {
            if moved.contains(&position)
                && let Some(members) = node.as_object_mut()
            {
                members.shift_remove("description");
            }
            position += 1;
        }
    });
    moved.sort_unstable();
    let lines: Vec<String> = moved.iter().map(|at| format!("- {}: {}", found[*at].0, found[*at].1)).collect();
    if lines.is_empty() { String::new() } else { format!("Parameters:\n{}", lines.join("\n")) }
}
