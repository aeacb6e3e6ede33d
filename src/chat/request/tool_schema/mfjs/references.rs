//! The published rules about references: where they point, how deep they lead, and whether following them ends.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use crate::chat::request::tool_schema::problem::Problem;

/// Steps that are taken before a schema counts as too complex: definitions that name each other twice have more ways through
/// them than can be followed. Ordinary schemas take a few hundred.
const MAX_STEPS: usize = 20_000;

/// Steps within steps; running out of stack would end the process.
const MAX_CHAIN: usize = 400;

type Validity<T = ()> = Result<T, Problem>;
type Members = Map<String, Value>;

/// Returns whether the published validator finds an end to this part of a schema. `None` if it is too complex.
///
/// It accepts an object if one of its required properties ends, and takes a list for as long as it has items.
pub fn ends_as_published(root: &Members, node: &Members) -> Option<bool> {
    ReferenceChecks::new(root).ends(node, &mut HashSet::new()).ok()
}

/// Measures how deep definitions nest; shared by the check and the normalization.
pub struct DepthBudget<'s>(ReferenceChecks<'s>);

impl<'s> DepthBudget<'s> {
    /// Measures all definitions. `None` if the schema is too complex.
    pub fn new(root: &'s Members) -> Option<Self> {
        let mut checks = ReferenceChecks::new(root);
        checks.measure().ok().map(|()| Self(checks))
    }

    /// Returns how many levels a reference adds.
    pub fn depth_of(&self, reference: &str) -> usize {
        self.0.depth_of(reference)
    }
}

pub(super) struct ReferenceChecks<'s> {
    root: &'s Members,
    /// Levels below each part of a definition, by its path as a reference.
    depths: HashMap<String, usize>,
    steps: usize,
    chain: usize,
}

impl<'s> ReferenceChecks<'s> {
    pub fn new(root: &'s Members) -> Self {
        Self { root, depths: HashMap::new(), steps: 0, chain: 0 }
    }

    pub fn depth_of(&self, reference: &str) -> usize {
        self.depths.get(reference).copied().unwrap_or(0)
    }

    /// Enters one more part; every call is followed by one of `leave`.
    fn enter(&mut self) -> Validity {
        self.steps += 1;
        self.chain += 1;
        if self.steps > MAX_STEPS || self.chain > MAX_CHAIN {
            return Err(Problem::at(&[], "the references are too complex"));
        }
        Ok(())
    }

    fn leave(&mut self) {
        self.chain -= 1;
    }

    /// Measures the depth of all definitions.
    pub fn measure(&mut self) -> Validity {
        let Some(Value::Object(definitions)) = self.root.get("$defs") else { return Ok(()) };
        for (name, definition) in definitions {
            if let Some(definition) = definition.as_object() {
                self.depth(definition, &format!("#/$defs/{name}"), &HashSet::new())?;
            }
        }
        Ok(())
    }

    /// Levels of properties below a part, each reference followed once.
    fn depth(&mut self, node: &'s Members, path: &str, followed: &HashSet<&'s str>) -> Validity<usize> {
        self.enter()?;
        let mut deepest = 0;
        let mut followed = followed.clone();
        if let Some(Value::String(reference)) = node.get("$ref")
            && followed.insert(reference)
            && let Some(target) = self.target(reference)
        {
            deepest = self.depth(target, reference, &followed)?;
        }
        for (name, property) in node.get("properties").and_then(Value::as_object).into_iter().flatten() {
            deepest = deepest.max(1);
            if let Some(property) = property.as_object() {
                let below = self.depth(property, &format!("{path}/properties/{name}"), &followed)?;
                deepest = deepest.max(1 + below);
            }
        }
        for (position, branch) in node.get("anyOf").and_then(Value::as_array).into_iter().flatten().enumerate() {
            if let Some(branch) = branch.as_object() {
                deepest = deepest.max(self.depth(branch, &format!("{path}/anyOf/{position}"), &followed)?);
            }
        }
        if let Some(Value::Object(more)) = node.get("additionalProperties") {
            deepest = deepest.max(self.depth(more, &format!("{path}/additionalProperties"), &followed)?);
        }
        let known = self.depths.entry(path.to_owned()).or_insert(0);
        *known = deepest.max(*known);
        self.leave();
        Ok(deepest)
    }

    fn target(&self, reference: &str) -> Option<&'s Members> {
        if reference == "#" {
            return Some(self.root);
        }
        let path = reference.strip_prefix("#/").filter(|path| path.starts_with("$defs/"))?;
        path.split('/').try_fold(self.root, |node, part| node.get(part)?.as_object())
    }

    /// Checks that every reference resolves, stands where one may stand, and leads to an end.
    pub fn check(&mut self) -> Validity {
        let ends = self.ends(self.root, &mut HashSet::new()).is_ok_and(|ends| ends);
        self.steps = 0;
        self.walk(self.root, !ends, &mut Vec::new())
    }

    /// Walks through everything that may be taken for a schema, default values included.
    fn walk(&mut self, node: &'s Members, must_end: bool, path: &mut Vec<String>) -> Validity {
        if path.len() > MAX_CHAIN {
            return Err(Problem::at(path, "nesting is too deep to be checked"));
        }
        if let Some(reference) = node.get("$ref") {
            self.reference(node, reference, must_end, path)?;
        }
        for (word, value) in node {
            match (word.as_str(), value) {
                ("$defs", _) => {}
                ("anyOf", Value::Array(branches)) => {
                    for (position, branch) in branches.iter().enumerate() {
                        if let Some(branch) = branch.as_object() {
                            path.push(format!("anyOf{{{position}}}"));
                            self.walk(branch, must_end, path)?;
                            path.pop();
                        }
                    }
                }
                (word, Value::Object(members)) => {
                    let optional = match word {
                        "properties" => {
                            node.get("required").and_then(Value::as_array).is_some_and(|required| required.is_empty())
                        }
                        word => word == "additionalProperties",
                    };
                    path.push(word.to_owned());
                    self.walk(members, must_end && !optional, path)?;
                    path.pop();
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn reference(&mut self, node: &'s Members, value: &'s Value, must_end: bool, path: &[String]) -> Validity {
        let refuse = |message: &str| Err(Problem::at(path, message));
        let Some(expanded) = value.as_str().and_then(|reference| self.expanded(reference)) else {
            return refuse("$ref leads nowhere");
        };
        let own = |word: &&String| *word != "$ref";
        let (target, notes) = expanded;
        if let Some(word) =
            node.keys().filter(own).find(|word| target.contains_key(*word) || notes.contains(word.as_str()))
        {
            return refuse(&format!("{word} stands both beside $ref and in its target"));
        }
        let branches = target.get("anyOf").and_then(Value::as_array).into_iter().flatten();
        for branch in branches.filter_map(Value::as_object) {
            let twice =
                |word: &&String| !matches!(word.as_str(), "description" | "title") && branch.contains_key(*word);
            if let Some(word) = node.keys().filter(own).find(twice) {
                return refuse(&format!("{word} stands both beside $ref and in a branch of its target"));
            }
        }
        if must_end && !self.ends(target, &mut HashSet::new())? {
            return refuse("the references never end");
        }
        let last = path.last().map_or("", String::as_str);
        let in_properties = path.len() > 1 && path[path.len() - 2] == "properties";
        let allowed = path.len() <= 1
            || in_properties
            || matches!(last, "additionalProperties" | "items")
            || last.starts_with("anyOf");
        if allowed { Ok(()) } else { refuse("$ref cannot stand here") }
    }

    /// Follows references to references. Returns the final target and the annotations on the way.
    fn expanded(&self, reference: &'s str) -> Option<(&'s Members, HashSet<&'s str>)> {
        let mut followed = HashSet::from([reference]);
        let mut notes = HashSet::new();
        let mut current = self.target(reference)?;
        while let Some(next) = current.get("$ref") {
            if current.keys().any(|word| !matches!(word.as_str(), "$ref" | "description" | "title")) {
                break;
            }
            let next = next.as_str()?;
            if !followed.insert(next) {
                break;
            }
            for word in current.keys().filter(|word| *word != "$ref") {
                // The same annotation twice on the way is refused.
                if !notes.insert(word.as_str()) {
                    return None;
                }
            }
            current = self.target(next)?;
        }
        Some((current, notes))
    }

    fn ends(&mut self, node: &'s Members, followed: &mut HashSet<&'s str>) -> Validity<bool> {
        self.enter()?;
        let ends = self.part_ends(node, followed)?;
        self.leave();
        Ok(ends)
    }

    fn part_ends(&mut self, node: &'s Members, followed: &mut HashSet<&'s str>) -> Validity<bool> {
        let mut types = match node.get("type") {
            Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
            Some(Value::String(one)) => vec![one.as_str()],
            _ => Vec::new(),
        };
        if types.iter().any(|kind| !matches!(*kind, "object" | "array")) {
            return Ok(true);
        }
        match types.pop() {
            Some("array") => match node.get("items").and_then(Value::as_object) {
                None => return Ok(true),
                Some(items) if items.is_empty() || self.ends(items, followed)? => return Ok(true),
                Some(_) => {}
            },
            Some(_) => {
                let required = node.get("required").and_then(Value::as_array).filter(|names| !names.is_empty());
                let properties = node.get("properties").and_then(Value::as_object).filter(|own| !own.is_empty());
                let (Some(required), Some(properties)) = (required, properties) else { return Ok(true) };
                for name in required.iter().filter_map(Value::as_str) {
                    if let Some(Value::Object(property)) = properties.get(name)
                        && self.ends(property, followed)?
                    {
                        return Ok(true);
                    }
                }
            }
            None => {}
        }
        if let Some(Value::Array(branches)) = node.get("anyOf") {
            let mut seen = followed.clone();
            for branch in branches.iter().filter_map(Value::as_object) {
                let mut own = followed.clone();
                if self.ends(branch, &mut own)? {
                    return Ok(true);
                }
                seen.extend(own);
            }
            *followed = seen;
        }
        if let Some(Value::String(reference)) = node.get("$ref") {
            if !followed.insert(reference) {
                return Ok(false);
            }
            return match self.target(reference) {
                Some(target) => self.ends(target, followed),
                None => Ok(false),
            };
        }
        Ok(node.is_empty())
    }
}
