//! Whether a schema lies within Moonshot's subset: the service's rules as far as they are known
//! (docs/protocol.md#tool-schema-subset), the strictest reading of each, because what passes here has to pass everywhere.

use std::fmt;

use serde_json::{Map, Value};

use super::references::{definition, terminates};
use super::types::{TYPES, fits};
use super::{MAX_BRANCHES, MAX_BYTES, MAX_DEPTH, MAX_PROPERTIES, MAX_VALUES, keywords};

/// A rule that a schema breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Members on the way, joined by dots; `root` for the schema itself.
    pub path: String,
    /// The rule.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at path '{}': {}", self.path, self.message)
    }
}

/// The first rule that the schema breaks.
pub fn problem(schema: &Value) -> Option<Problem> {
    if schema.to_string().len() > MAX_BYTES {
        return refuse("root", format!("schema is longer than {MAX_BYTES} bytes")).err();
    }
    misfit(schema)
}

/// As `problem`, whatever the length.
pub fn misfit(schema: &Value) -> Option<Problem> {
    let Some(root) = schema.as_object() else { return refuse("root", "schema must be an object").err() };
    let mut walk = Walk { root, properties: 0 };
    walk.whole().err()
}

type Validity = std::result::Result<(), Problem>;

fn refuse(path: &str, message: impl Into<String>) -> Validity {
    Err(Problem { path: path.to_owned(), message: message.into() })
}

struct Walk<'s> {
    root: &'s Map<String, Value>,
    properties: usize,
}

impl<'s> Walk<'s> {
    fn whole(&mut self) -> Validity {
        if self.root.get("type").and_then(Value::as_str) != Some("object") {
            return refuse("root", "type must be \"object\"");
        }
        self.node(self.root, "root", 0)?;
        match self.root.get("$defs") {
            None => {}
            Some(Value::Object(definitions)) => {
                for (name, definition) in definitions {
                    if name.is_empty() || name.contains(['/', '~', '%']) {
                        return refuse("$defs", format!("definition cannot be named {name:?}"));
                    }
                    self.typed(definition, &format!("$defs.{name}"), 0)?;
                }
            }
            Some(_) => return refuse("$defs", "$defs must be an object"),
        }
        if !terminates(self.root) {
            return refuse("root", "no finite value satisfies the schema");
        }
        Ok(())
    }

    /// A schema in a place where its type has to be known.
    fn typed(&mut self, schema: &'s Value, path: &str, depth: usize) -> Validity {
        let Some(node) = schema.as_object() else { return refuse(path, "schema must be an object") };
        if !["type", "anyOf", "$ref"].iter().any(|word| node.contains_key(*word)) {
            return refuse(path, "type is not defined");
        }
        self.node(node, path, depth)
    }

    fn node(&mut self, node: &'s Map<String, Value>, path: &str, depth: usize) -> Validity {
        if depth > MAX_DEPTH {
            return refuse(path, format!("nesting is deeper than {MAX_DEPTH} levels"));
        }
        let at_root = std::ptr::eq(node, self.root);
        if let Some(unknown) = node.keys().find(|word| !keywords::is_known(word, at_root)) {
            return refuse(path, format!("keyword {unknown} is not part of the subset"));
        }
        let types = self.types(node, path)?;
        self.reference(node, path)?;
        self.enumeration(node, &types, path)?;
        for word in ["description", "pattern"] {
            if node.get(word).is_some_and(|text| !text.is_string()) {
                return refuse(path, format!("{word} must be a string"));
            }
        }
        for word in ["minimum", "maximum", "minItems", "maxItems", "minLength", "maxLength"] {
            if node.get(word).is_some_and(|number| !number.is_number()) {
                return refuse(path, format!("{word} must be a number"));
            }
        }
        self.object(node, path, depth)?;
        if let Some(items) = node.get("items") {
            self.typed(items, &format!("{path}.items"), depth)?;
        }
        self.branches(node, path, depth)
    }

    fn types(&self, node: &'s Map<String, Value>, path: &str) -> std::result::Result<Vec<&'s str>, Problem> {
        let Some(stated) = node.get("type") else { return Ok(Vec::new()) };
        for word in ["anyOf", "$ref"] {
            if node.contains_key(word) {
                refuse(path, format!("type cannot stand beside {word}"))?;
            }
        }
        let types: Vec<&str> = match stated {
            Value::String(one) => vec![one],
            Value::Array(many) => many.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let stated_count = stated.as_array().map_or(1, Vec::len);
        if types.is_empty() || types.len() != stated_count || !types.iter().all(|one| TYPES.contains(one)) {
            refuse(path, "invalid type")?;
        }
        Ok(types)
    }

    fn reference(&self, node: &Map<String, Value>, path: &str) -> Validity {
        let Some(reference) = node.get("$ref") else { return Ok(()) };
        let target = reference.as_str().and_then(|reference| definition(self.root, reference));
        if target.is_none() {
            return refuse(path, "$ref must name a definition in $defs of the root");
        }
        if node.len() > 1 { refuse(path, "nothing can stand beside $ref") } else { Ok(()) }
    }

    fn enumeration(&self, node: &Map<String, Value>, types: &[&str], path: &str) -> Validity {
        let Some(values) = node.get("enum") else { return Ok(()) };
        let Some(values) = values.as_array().filter(|values| (1..=MAX_VALUES).contains(&values.len())) else {
            return refuse(path, format!("enum must be a list of 1 to {MAX_VALUES} values"));
        };
        let primitive: Vec<&str> =
            types.iter().filter(|one| !matches!(**one, "null" | "object" | "array")).copied().collect();
        if types.len() > 2 || types.len() - primitive.len() > 1 || primitive.len() > 1 {
            return refuse(path, "the values of an enum must be of one primitive type, or null");
        }
        if types.is_empty() {
            return refuse(path, "type is not defined");
        }
        if values.iter().any(|value| value.is_array() || value.is_object() || !fits(value, types)) {
            return refuse(path, "a value of enum does not match its type");
        }
        Ok(())
    }

    fn object(&mut self, node: &'s Map<String, Value>, path: &str, depth: usize) -> Validity {
        let none = Map::new();
        let properties = match node.get("properties") {
            None => &none,
            Some(Value::Object(properties)) => properties,
            Some(_) => return refuse(path, "properties must be an object"),
        };
        self.properties += properties.len();
        if self.properties > MAX_PROPERTIES {
            return refuse(path, format!("there are more than {MAX_PROPERTIES} properties"));
        }
        match node.get("required") {
            None => {}
            Some(Value::Array(names)) => {
                let known = |name: &Value| name.as_str().is_some_and(|name| properties.contains_key(name));
                if let Some(stray) = names.iter().find(|name| !known(name)) {
                    return refuse(path, format!("required property {stray} is not defined in properties"));
                }
            }
            Some(_) => return refuse(path, "required must be an array"),
        }
        if let Some(Value::Object(properties)) = node.get("properties") {
            for (name, property) in properties {
                self.typed(property, &format!("{path}.properties.{name}"), depth + 1)?;
            }
        }
        match node.get("additionalProperties") {
            None | Some(Value::Bool(_)) => Ok(()),
            Some(Value::Object(empty)) if empty.is_empty() => Ok(()),
            Some(schema) => self.typed(schema, &format!("{path}.additionalProperties"), depth + 1),
        }
    }

    fn branches(&mut self, node: &'s Map<String, Value>, path: &str, depth: usize) -> Validity {
        let Some(branches) = node.get("anyOf") else { return Ok(()) };
        let Some(branches) = branches.as_array().filter(|all| (1..=MAX_BRANCHES).contains(&all.len())) else {
            return refuse(path, format!("anyOf must have 1 to {MAX_BRANCHES} branches"));
        };
        for (position, branch) in branches.iter().enumerate() {
            let twice = branch.as_object().and_then(|branch| {
                branch.keys().find(|word| *word != "description" && node.contains_key(word.as_str()))
            });
            if let Some(word) = twice {
                return refuse(path, format!("{word} stands both beside anyOf and in it"));
            }
            self.typed(branch, &format!("{path}.anyOf.{position}"), depth)?;
        }
        Ok(())
    }
}
