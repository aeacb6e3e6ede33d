//! Whether a schema can be sent as it is: the published rules of MFJS, and some of the project's own that no deployment
//! refuses (docs/protocol.md#tool-schema-subset).

use serde_json::{Map, Value};

use super::keywords;
use super::limits::MAX_BYTES;
use super::mfjs::{Level, violation};
use super::problem::Problem;
use super::references::{definition, terminates};

/// Returns the first rule that the schema breaks.
pub fn problem(schema: &Value) -> Option<Problem> {
    if schema.to_string().len() > MAX_BYTES {
        return Some(Problem::at(&[], format!("schema is longer than {MAX_BYTES} bytes")));
    }
    misfit(schema)
}

/// As [`problem`], at any length.
pub fn misfit(schema: &Value) -> Option<Problem> {
    let Some(root) = schema.as_object() else { return Some(Problem::at(&[], "schema must be an object")) };
    if root.get("type").and_then(Value::as_str) != Some("object") {
        return Some(Problem::at(&[], "type must be \"object\""));
    }
    if let Some(problem) = violation(schema, Level::Strict) {
        return Some(problem);
    }
    let mut walk = Walk { root, path: Vec::new() };
    walk.whole().err()
}

type Validity = Result<(), Problem>;

/// The project's own rules, for a schema that keeps the published ones.
struct Walk<'s> {
    root: &'s Map<String, Value>,
    path: Vec<String>,
}

impl<'s> Walk<'s> {
    fn refuse(&self, message: impl Into<String>) -> Validity {
        Err(Problem::at(&self.path, message))
    }

    fn whole(&mut self) -> Validity {
        self.node(self.root)?;
        for (name, definition) in self.root.get("$defs").and_then(Value::as_object).into_iter().flatten() {
            if name.contains(['~', '%']) {
                return self.refuse(format!("definition cannot be named {name:?}"));
            }
            self.typed("$defs", name, definition)?;
        }
        if !terminates(self.root) {
            return self.refuse("no finite value satisfies the schema");
        }
        Ok(())
    }

    /// Checks a schema in a place where its type has to be known.
    fn typed(&mut self, word: &str, name: &str, schema: &'s Value) -> Validity {
        let Some(node) = schema.as_object() else { return self.refuse(format!("{word} must hold objects")) };
        let before = self.path.len();
        self.path.extend([word, name].into_iter().filter(|part| !part.is_empty()).map(str::to_owned));
        if !["type", "anyOf", "$ref"].iter().any(|word| node.contains_key(*word)) {
            return self.refuse("type is not defined");
        }
        self.node(node)?;
        self.path.truncate(before);
        Ok(())
    }

    fn node(&mut self, node: &'s Map<String, Value>) -> Validity {
        if let Some(unknown) = node.keys().find(|word| !keywords::is_known(word, self.path.is_empty())) {
            return self.refuse(format!("keyword {unknown} is not part of the subset"));
        }
        if let Some(reference) = node.get("$ref") {
            let target = reference.as_str().and_then(|reference| definition(self.root, reference));
            if target.is_none() || node.len() > 1 {
                return self.refuse("$ref must stand alone and name a definition in $defs of the root");
            }
        }
        if node.get("enum").and_then(Value::as_array).is_some_and(|values| values.iter().any(is_compound)) {
            return self.refuse("the values of an enum must be primitive");
        }
        for (name, property) in node.get("properties").and_then(Value::as_object).into_iter().flatten() {
            self.typed("properties", name, property)?;
        }
        if let Some(items) = node.get("items") {
            self.typed("items", "", items)?;
        }
        match node.get("additionalProperties") {
            None | Some(Value::Bool(_)) => {}
            Some(Value::Object(empty)) if empty.is_empty() => {}
            Some(schema) => self.typed("additionalProperties", "", schema)?,
        }
        for (position, branch) in node.get("anyOf").and_then(Value::as_array).into_iter().flatten().enumerate() {
            self.typed("anyOf", &position.to_string(), branch)?;
        }
        Ok(())
    }
}

fn is_compound(value: &Value) -> bool {
    value.is_array() || value.is_object()
}
