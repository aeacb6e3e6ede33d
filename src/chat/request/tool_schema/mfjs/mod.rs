//! The published rules of MFJS, Moonshot's subset of JSON Schema: <https://github.com/MoonshotAI/walle>.
//!
//! The published validator has levels. The service requires `strict`; `ultra` adds rules of style, such as keywords that do not
//! belong to the type. Where versions of the validator differ, the stricter one is followed.

mod references;
mod values;

use std::collections::HashSet;

use serde_json::{Map, Value};

use self::references::ReferenceChecks;
pub use self::references::{DepthBudget, ends_as_published};
pub use self::values::length;
use self::values::{check_bounds, check_enum};
use super::limits::{MAX_BRANCHES, MAX_DEPTH, MAX_PROPERTIES};
use super::problem::Problem;
use super::types::TYPES;

/// How strictly the published validator reads a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What the service requires.
    Strict,
    /// The strictest level, to which the normalized schemas keep.
    Ultra,
}

/// Property names that are taken for keywords, at every level.
pub const RESERVED_NAMES: [&str; 5] = ["$defs", "$ref", "anyOf", "required", "additionalProperties"];

/// Nodes within nodes that are followed; running out of stack would end the process.
const MAX_NESTING: usize = 400;

type Validity<T = ()> = Result<T, Problem>;

/// Returns the first published rule that the schema breaks at this level.
pub fn violation(schema: &Value, level: Level) -> Option<Problem> {
    let Some(root) = schema.as_object() else { return Some(Problem::at(&[], "schema must be an object")) };
    // The empty schema is the only untyped one that every version accepts.
    if root.is_empty() { None } else { check(root, level).err() }
}

fn check(root: &Map<String, Value>, level: Level) -> Validity {
    let mut references = ReferenceChecks::new(root);
    references.measure()?;
    let mut validator = Validator { root, level, references, properties: 0, path: Vec::new(), unaddressable: false };
    let deepest = validator.node(root, 0)?;
    if deepest > MAX_DEPTH {
        return validator.refuse(too_deep());
    }
    validator.references.check()
}

fn too_deep() -> String {
    format!("nesting is deeper than {MAX_DEPTH} levels")
}

/// Returns whether the published validator mistakes this name for a position in a list, so that it cannot find what lies below.
pub fn is_unaddressable(name: &str) -> bool {
    name.contains('{') && name.contains('}')
}

/// Returns whether some object within the value has a key with a slash, which no definition may hold.
pub fn has_slash(value: &Value) -> bool {
    match value {
        Value::Object(members) => members.iter().any(|(key, value)| key.contains('/') || has_slash(value)),
        Value::Array(items) => items.iter().any(has_slash),
        _ => false,
    }
}

struct Validator<'s> {
    root: &'s Map<String, Value>,
    level: Level,
    references: ReferenceChecks<'s>,
    /// Properties of all objects so far.
    properties: usize,
    path: Vec<String>,
    /// A name on the path is one that [`is_unaddressable`] describes.
    unaddressable: bool,
}

impl<'s> Validator<'s> {
    fn refuse<T>(&self, message: impl Into<String>) -> Validity<T> {
        Err(Problem::at(&self.path, message))
    }

    fn is_ultra(&self) -> bool {
        self.level >= Level::Ultra
    }

    /// Checks a schema inside another one; returns the deepest level reached.
    fn inside(&mut self, step: &[&str], node: &'s Map<String, Value>, depth: usize) -> Validity<usize> {
        let before = (self.path.len(), self.unaddressable);
        self.unaddressable |= step.last().is_some_and(|name| is_unaddressable(name));
        self.path.extend(step.iter().map(|part| (*part).to_owned()));
        let deepest = self.node(node, depth)?;
        self.path.truncate(before.0);
        self.unaddressable = before.1;
        Ok(deepest)
    }

    fn node(&mut self, node: &'s Map<String, Value>, depth: usize) -> Validity<usize> {
        if depth > MAX_DEPTH {
            return self.refuse(too_deep());
        }
        if self.path.len() > MAX_NESTING {
            return self.refuse("nesting is too deep to be checked");
        }
        let mut deepest = depth;
        if let Some(Value::Object(definitions)) = node.get("$defs") {
            for (name, definition) in definitions {
                let Some(definition) = definition.as_object() else {
                    return self.refuse(format!("definition {name} must be an object"));
                };
                deepest = deepest.max(self.inside(&["$defs", name], definition, depth)?);
            }
        }
        self.types(node)?;
        self.keywords(node)?;
        if let Some(Value::String(reference)) = node.get("$ref") {
            deepest = deepest.max(depth + self.references.depth_of(reference));
        }
        if let Some(Value::Object(properties)) = node.get("properties") {
            self.properties += properties.len();
            if self.properties > MAX_PROPERTIES {
                return self.refuse(format!("there are more than {MAX_PROPERTIES} properties"));
            }
            for (name, property) in properties {
                if let Some(property) = property.as_object() {
                    deepest = deepest.max(self.inside(&["properties", name], property, depth + 1)?);
                }
            }
        }
        for word in ["items", "additionalProperties"] {
            if let Some(Value::Object(schema)) = node.get(word) {
                deepest = deepest.max(self.inside(&[word], schema, depth)?);
            }
        }
        for (position, branch) in node.get("anyOf").and_then(Value::as_array).into_iter().flatten().enumerate() {
            if let Some(branch) = branch.as_object() {
                deepest = deepest.max(self.inside(&["anyOf", &position.to_string()], branch, depth)?);
            }
        }
        Ok(deepest)
    }

    fn types(&self, node: &'s Map<String, Value>) -> Validity {
        let Some(stated) = node.get("type") else { return Ok(()) };
        for word in ["anyOf", "$ref"] {
            if node.contains_key(word) {
                return self.refuse(format!("type cannot stand beside {word}"));
            }
        }
        let types: Vec<&str> = match stated {
            Value::String(one) => vec![one],
            Value::Array(many) => many.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let count = stated.as_array().map_or(1, Vec::len);
        if types.is_empty() || types.len() != count || !types.iter().all(|one| TYPES.contains(one)) {
            return self.refuse("invalid type");
        }
        if types.len() > 1 {
            self.several_types(node, &types)?;
        }
        if self.is_ultra() {
            let distinct: HashSet<&str> = types.iter().copied().collect();
            if distinct.len() < types.len() {
                return self.refuse("a type is listed twice");
            }
            let foreign = node.keys().find(|word| !self.belongs_to(word, types[0]));
            if let Some(word) = foreign {
                return self.refuse(format!("keyword {word} does not belong to type {}", types[0]));
            }
        }
        check_bounds(node, &types).map_err(|message| Problem::at(&self.path, message))
    }

    /// Beside a list of types only annotations may stand, or an enumeration if there are two primitive types.
    fn several_types(&self, node: &Map<String, Value>, types: &[&str]) -> Validity {
        let compound = types.iter().any(|one| matches!(*one, "object" | "array"));
        if node.contains_key("enum") && compound {
            return self.refuse("object and array cannot be listed beside enum");
        }
        if types.len() == 2 && node.contains_key("enum") {
            return Ok(());
        }
        let may_stand = |word: &str| match word {
            "type" | "description" | "title" => true,
            "$defs" | "$id" => self.path.is_empty(),
            _ => false,
        };
        let stray = node.keys().find(|word| !may_stand(word));
        match stray {
            Some(word) => self.refuse(format!("keyword {word} cannot stand beside a list of types")),
            None => Ok(()),
        }
    }

    fn belongs_to(&self, word: &str, kind: &str) -> bool {
        match word {
            "type" | "default" | "description" | "title" => true,
            "$defs" | "$id" => self.path.is_empty(),
            "properties" | "required" | "additionalProperties" => kind == "object",
            "items" | "minItems" | "maxItems" => kind == "array",
            "minLength" | "maxLength" | "pattern" => kind == "string",
            "minimum" | "maximum" => matches!(kind, "number" | "integer"),
            "enum" => !matches!(kind, "object" | "array"),
            _ => false,
        }
    }

    fn keywords(&mut self, node: &'s Map<String, Value>) -> Validity {
        for (word, value) in node {
            match (word.as_str(), value) {
                ("properties", value) => self.property_names(value)?,
                ("required", value) => self.required(node, value)?,
                ("enum", value) => {
                    self.addressable()?;
                    check_enum(node, value).map_err(|message| Problem::at(&self.path, message))?;
                }
                ("items", value) if !value.is_object() => return self.refuse("items must be an object"),
                ("$ref", value) => self.reference(node, value)?,
                ("description", value) if !value.is_string() => return self.refuse("description must be a string"),
                ("$id" | "pattern", value) if !value.is_string() && !value.is_null() => {
                    return self.refuse(format!("{word} must be a string"));
                }
                ("anyOf", value) => self.branches(node, value)?,
                ("additionalProperties", value) if !value.is_boolean() && !value.is_object() => {
                    return self.refuse("additionalProperties must be a boolean or an object");
                }
                ("$defs", value) => self.definitions(value)?,
                _ => {}
            }
            if self.is_ultra() && !is_supported(word) {
                return self.refuse(format!("keyword {word} is not part of MFJS"));
            }
        }
        Ok(())
    }

    fn property_names(&self, value: &Value) -> Validity {
        let Some(properties) = value.as_object() else { return self.refuse("properties must be an object") };
        for (name, property) in properties {
            if RESERVED_NAMES.contains(&name.as_str()) {
                return self.refuse(format!("a property cannot be named {name}"));
            }
            if name.is_empty() && self.is_ultra() {
                return self.refuse("a property cannot have an empty name");
            }
            if !property.is_object() {
                return self.refuse(format!("property {name} must be an object"));
            }
        }
        Ok(())
    }

    fn required(&self, node: &Map<String, Value>, value: &Value) -> Validity {
        let Some(listed) = value.as_array() else { return self.refuse("required must be an array") };
        let names: Vec<&str> = listed.iter().filter_map(Value::as_str).collect();
        if names.len() < listed.len() {
            return self.refuse("required must hold strings");
        }
        if names.is_empty() {
            return Ok(());
        }
        self.addressable()?;
        let properties = node.get("properties").and_then(Value::as_object);
        if self.is_ultra() {
            let distinct: HashSet<&str> = names.iter().copied().collect();
            if distinct.len() < names.len() {
                return self.refuse("a required property is listed twice");
            }
            let is_object = match node.get("type") {
                Some(Value::Array(types)) => types.len() == 1 && types[0] == "object",
                Some(one) => one == "object",
                None => false,
            };
            if !is_object || properties.is_none() {
                return self.refuse("required needs an object with properties");
            }
        }
        let declared = |name: &&&str| properties.is_some_and(|own| own.contains_key(**name));
        match names.iter().find(|name| !declared(name)) {
            Some(name) => self.refuse(format!("required property \"{name}\" is not defined in properties")),
            None => Ok(()),
        }
    }

    fn reference(&mut self, node: &'s Map<String, Value>, value: &'s Value) -> Validity {
        let Some(reference) = value.as_str() else { return self.refuse("$ref must be a string") };
        if reference == "#" {
            return Ok(());
        }
        if reference.strip_prefix("#/$defs/").is_none_or(str::is_empty) || !self.root.contains_key("$defs") {
            return self.refuse("$ref must name a definition in $defs of the root");
        }
        self.addressable()?;
        self.alone(node, "$ref")
    }

    fn branches(&self, node: &Map<String, Value>, value: &Value) -> Validity {
        let Some(branches) = value.as_array().filter(|all| (1..=MAX_BRANCHES).contains(&all.len())) else {
            return self.refuse(format!("anyOf must have 1 to {MAX_BRANCHES} branches"));
        };
        self.addressable()?;
        for branch in branches {
            let Some(branch) = branch.as_object() else { return self.refuse("a branch of anyOf must be an object") };
            let twice = branch.keys().find(|word| !is_note(word) && *word != "anyOf" && node.contains_key(*word));
            if let Some(word) = twice {
                return self.refuse(format!("{word} stands both beside anyOf and in it"));
            }
        }
        self.alone(node, "anyOf")
    }

    /// At the strictest level only annotations may stand beside `anyOf` and `$ref`.
    fn alone(&self, node: &Map<String, Value>, word: &str) -> Validity {
        let is_sibling = |key: &&String| {
            *key != word && !is_note(key) && !(self.path.is_empty() && matches!(key.as_str(), "$defs" | "$id"))
        };
        match node.keys().find(is_sibling).filter(|_| self.is_ultra()) {
            Some(key) => self.refuse(format!("keyword {key} cannot stand beside {word}")),
            None => Ok(()),
        }
    }

    fn definitions(&self, value: &Value) -> Validity {
        let Some(definitions) = value.as_object() else { return self.refuse("$defs must be an object") };
        for (name, definition) in definitions {
            if name.is_empty() || name.contains('/') || has_slash(definition) {
                return self.refuse(format!("definition {name} has an empty name or a name with a slash in it"));
            }
            if !definition.is_object() {
                return self.refuse(format!("definition {name} must be an object"));
            }
        }
        Ok(())
    }

    fn addressable(&self) -> Validity {
        if self.unaddressable { self.refuse("a name on the path holds braces") } else { Ok(()) }
    }
}

fn is_note(word: &str) -> bool {
    matches!(word, "description" | "title")
}

fn is_supported(word: &str) -> bool {
    const SUPPORTED: [&str; 20] = [
        "type",
        "properties",
        "additionalProperties",
        "items",
        "enum",
        "required",
        "anyOf",
        "description",
        "$defs",
        "$ref",
        "title",
        "$id",
        "default",
        "maxLength",
        "minLength",
        "maximum",
        "minimum",
        "maxItems",
        "minItems",
        "pattern",
    ];
    SUPPORTED.contains(&word)
}
