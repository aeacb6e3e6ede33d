//! Completes a converted schema: what can only be judged once all definitions are known.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::hints::{Hints, describe, own_name};
use super::normalizer::{SchemaNormalizer, object};
use crate::chat::request::tool_schema::limits::{MAX_BYTES, MAX_DEPTH};
use crate::chat::request::tool_schema::mfjs::{DepthBudget, ends_as_published, has_slash};
use crate::chat::request::tool_schema::references::terminates;

/// Most changes of one kind that are made to a schema.
const MAX_ROUNDS: usize = 100;

impl SchemaNormalizer<'_> {
    /// Adds the definitions to the root, and changes what breaks a rule about definitions.
    pub(super) fn finish(&mut self, mut root: Map<String, Value>) -> Map<String, Value> {
        if !self.definitions.is_empty() {
            root.insert("$defs".to_owned(), Value::Object(std::mem::take(&mut self.definitions)));
            self.remove_slashes(&mut root);
            self.cut_deep_references(&mut root);
        }
        self.let_references_end(&mut root);
        root
    }

    /// No name inside a definition may hold a slash. Such a definition is put where it is used; one that uses itself, or is too
    /// long, gets other names on the wire.
    fn remove_slashes(&mut self, root: &mut Map<String, Value>) {
        for _ in 0..MAX_ROUNDS {
            let Some(name) = definitions(root)
                .find(|(name, part)| has_slash(part) && !leads_to(root, name, name, &mut HashSet::new()))
                .map(|(name, _)| name)
            else {
                break;
            };
            let name = name.clone();
            let mut candidate = root.clone();
            let Some(part) =
                candidate.get_mut("$defs").and_then(Value::as_object_mut).and_then(|all| all.shift_remove(&name))
            else {
                break;
            };
            let reference = format!("#/$defs/{name}");
            for_each(&mut candidate, &mut |node| {
                if node.get("$ref").is_some_and(|own| *own == *reference) {
                    *node = part.as_object().cloned().unwrap_or_default();
                    return false;
                }
                true
            });
            if Value::Object(candidate.clone()).to_string().len() > MAX_BYTES {
                break;
            }
            *root = candidate;
        }
        if definitions(root).next().is_none() {
            root.shift_remove("$defs");
        }
        for (_, part) in root.get_mut("$defs").and_then(Value::as_object_mut).into_iter().flatten() {
            if let Some(part) = part.as_object_mut().filter(|part| has_slash(&Value::Object((*part).clone()))) {
                for_each(part, &mut |node| {
                    self.rename_slashes(node);
                    true
                });
            }
        }
    }

    fn rename_slashes(&mut self, node: &mut Map<String, Value>) {
        let mut renamed = Vec::new();
        if let Some(Value::Object(properties)) = node.get_mut("properties") {
            for (name, mut property) in std::mem::take(properties) {
                if !name.contains('/') {
                    properties.insert(name, property);
                    continue;
                }
                let wire = self.names.safe(&name);
                if let Some(property) = property.as_object_mut() {
                    describe(property, &own_name(&name));
                }
                properties.insert(wire.clone(), property);
                renamed.push((name, wire));
            }
        }
        for listed in node.get_mut("required").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some((_, wire)) = renamed.iter().find(|(name, _)| *listed == **name) {
                *listed = wire.as_str().into();
            }
        }
    }

    /// References count as deep as what they lead to. The innermost ones that lie too deep are cut until all fit.
    fn cut_deep_references(&mut self, root: &mut Map<String, Value>) {
        for _ in 0..MAX_ROUNDS {
            let mut least: Option<usize> = None;
            {
                let Some(depths) = DepthBudget::new(root) else { return };
                let mut copy = root.clone();
                for_each_at_depth(&mut copy, 0, &mut |node, depth| {
                    if let Some(below) = reference(node).map(|reference| depths.depth_of(reference))
                        && depth + below > MAX_DEPTH
                    {
                        least = Some(least.map_or(below, |known| known.min(below)));
                    }
                    true
                });
                let Some(least) = least else { return };
                for_each_at_depth(&mut copy, 0, &mut |node, depth| {
                    let below = reference(node).map(|reference| depths.depth_of(reference));
                    if below == Some(least) && depth + least > MAX_DEPTH {
                        let name = reference(node).unwrap_or_default().to_owned();
                        *node = object(&format!("Described as: {name}"));
                    }
                    true
                });
                self.lose(format!("parts nested deeper than {MAX_DEPTH} levels are left open"));
                *root = copy;
            }
        }
    }

    /// The published validator follows more references than have to end, and refuses an object none of whose required members
    /// ends for it. Such members are required in words.
    fn let_references_end(&mut self, root: &mut Map<String, Value>) {
        let finite = terminates(root);
        for _ in 0..MAX_ROUNDS {
            let whole = root.clone();
            let mut changed = false;
            for_each(root, &mut |node| {
                let required = node.get("required").and_then(Value::as_array).is_some_and(|names| !names.is_empty());
                if !changed && required && ends_as_published(&whole, node) == Some(false) {
                    let names: Vec<String> = match node.shift_remove("required") {
                        Some(Value::Array(names)) => {
                            names.iter().filter_map(Value::as_str).map(str::to_owned).collect()
                        }
                        _ => Vec::new(),
                    };
                    let mut hints = Hints::default();
                    hints.also_required(&names);
                    hints.add_to(node);
                    changed = true;
                }
                true
            });
            if !changed {
                break;
            }
            if !finite {
                self.lose("members that contain themselves without end are optional");
            }
        }
    }
}

fn reference(node: &Map<String, Value>) -> Option<&str> {
    node.get("$ref").and_then(Value::as_str)
}

fn definitions(root: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    root.get("$defs").and_then(Value::as_object).into_iter().flatten()
}

/// Returns whether the definition `from` leads to the definition `to`.
fn leads_to(root: &Map<String, Value>, from: &str, to: &str, seen: &mut HashSet<String>) -> bool {
    let Some(part) = root.get("$defs").and_then(|all| all.get(from)).and_then(Value::as_object) else { return false };
    let mut next = Vec::new();
    for_each(&mut part.clone(), &mut |node| {
        next.extend(reference(node).and_then(|name| name.strip_prefix("#/$defs/")).map(str::to_owned));
        true
    });
    next.iter().any(|name| name == to || (seen.insert(name.clone()) && leads_to(root, name, to, seen)))
}

/// Calls `visitor` for each schema, definitions first. It returns whether to go on inside.
fn for_each(node: &mut Map<String, Value>, visitor: &mut dyn FnMut(&mut Map<String, Value>) -> bool) {
    for_each_at_depth(node, 0, &mut |node, _| visitor(node));
}

/// As [`for_each`], with the number of objects around the schema.
fn for_each_at_depth(
    node: &mut Map<String, Value>,
    depth: usize,
    visitor: &mut dyn FnMut(&mut Map<String, Value>, usize) -> bool,
) {
    let mut into = |child: &mut Value, depth| {
        if let Some(child) = child.as_object_mut() {
            for_each_at_depth(child, depth, visitor);
        }
    };
    if let Some(Value::Object(definitions)) = node.get_mut("$defs") {
        definitions.values_mut().for_each(|child| into(child, 0));
    }
    if !visitor(node, depth) {
        return;
    }
    let mut into = |child: &mut Value, depth| {
        if let Some(child) = child.as_object_mut() {
            for_each_at_depth(child, depth, visitor);
        }
    };
    if let Some(Value::Object(properties)) = node.get_mut("properties") {
        properties.values_mut().for_each(|child| into(child, depth + 1));
    }
    for word in ["items", "additionalProperties"] {
        if let Some(child) = node.get_mut(word) {
            into(child, depth);
        }
    }
    if let Some(Value::Array(branches)) = node.get_mut("anyOf") {
        branches.iter_mut().for_each(|child| into(child, depth));
    }
}
