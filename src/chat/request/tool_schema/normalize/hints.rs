//! Moves what MFJS has no keyword for into the description, where the model reads it.

use serde_json::{Map, Value};

use crate::chat::request::tool_schema::{keywords, mfjs, types};
use crate::error::clip;

/// Longest constraint that is quoted in a description, in characters.
pub const MAX_QUOTED: usize = 400;

/// Longest list of examples, in characters.
const MAX_EXAMPLES: usize = 200;

/// Takes the description out of a node. A title takes its place unless it repeats the name of the property, as generated ones do.
pub fn described(node: &mut Map<String, Value>, name: &str) -> Option<String> {
    let plain = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).collect::<String>().to_lowercase();
    let title = node.shift_remove("title");
    match (node.shift_remove("description"), title) {
        (Some(Value::String(description)), _) if !description.is_empty() => Some(description),
        (_, Some(Value::String(title))) if !name.is_empty() && plain(&title) != plain(name) => Some(title),
        _ => None,
    }
}

/// Adds text to the description of a schema. Nothing may stand beside `$ref`, so a reference becomes the only branch of a choice.
pub fn describe(out: &mut Map<String, Value>, text: &str) {
    if out.contains_key("$ref") {
        let reference = Value::Object(std::mem::take(out));
        out.insert("anyOf".to_owned(), Value::Array(vec![reference]));
    }
    let description = match out.get("description").and_then(Value::as_str) {
        Some(known) if !known.is_empty() => format!("{known} {text}"),
        _ => text.to_owned(),
    };
    out.insert("description".to_owned(), description.into());
}

/// Returns the text that tells a property's own name, where it has another one on the wire.
pub fn own_name(name: &str) -> String {
    format!("(The tool's own name: {}.)", Value::from(name))
}

/// Sets the default value of a schema: as a member if it fits the only type, else in words.
pub fn set_default(out: &mut Map<String, Value>, default: Option<Value>) {
    let Some(default) = default else { return };
    let fits = out.get("type").and_then(Value::as_str).is_some_and(|kind| types::fits(&default, &[kind]));
    // The service takes some keys inside a default for keywords of the schema.
    if fits && !has_reference(&default) && !mfjs::has_slash(&default) {
        out.insert("default".to_owned(), default);
    } else {
        describe(out, &format!("Default: {}.", clip(&default.to_string(), MAX_QUOTED)));
    }
}

fn has_reference(value: &Value) -> bool {
    match value {
        Value::Object(members) => members.iter().any(|(key, value)| key == "$ref" || has_reference(value)),
        Value::Array(items) => items.iter().any(has_reference),
        _ => false,
    }
}

/// Sentences for a description.
#[derive(Default)]
pub struct Hints {
    sentences: Vec<String>,
    /// Members that are quoted as they are.
    pub quoted: Map<String, Value>,
}

impl Hints {
    /// Adds a sentence.
    pub fn sentence(&mut self, sentence: String) {
        self.sentences.push(sentence);
    }

    /// Names required members that the schema does not describe.
    pub fn also_required(&mut self, names: &[String]) {
        if !names.is_empty() {
            self.sentence(format!("Also required: {}.", names.join(", ")));
        }
    }

    /// Takes the remaining keywords of a node that speak about values of this type.
    pub fn of_type(&mut self, node: &mut Map<String, Value>, kind: &str) {
        for word in keywords::of(kind) {
            match node.shift_remove(*word) {
                Some(Value::String(format)) if *word == "format" => self.sentence(format!("Format: {format}.")),
                // Draft 4 says with a boolean that a bound is exclusive; `false` says nothing.
                None | Some(Value::Null | Value::Bool(false)) => {}
                Some(value) => {
                    self.quoted.insert((*word).to_owned(), value);
                }
            }
        }
    }

    /// Takes the remaining keywords of a node that speak about values of any type.
    pub fn of_any_type(&mut self, node: &mut Map<String, Value>) {
        let examples = node.shift_remove("examples").or_else(|| node.shift_remove("example"));
        if let Some(examples) = examples.filter(|examples| !examples.is_object()) {
            self.sentence(format!("Examples: {}.", clip(&examples.to_string(), MAX_EXAMPLES)));
        }
        for (word, value) in std::mem::take(node) {
            let silent = keywords::is_annotation(&word)
                || keywords::is_typed(&word)
                || matches!(word.as_str(), "type" | "nullable" | "$ref" | "enum");
            if !silent {
                self.quoted.insert(word, value);
            }
        }
    }

    /// Adds everything to the description of a schema. Returns whether something was too long to be quoted.
    pub fn add_to(mut self, out: &mut Map<String, Value>) -> bool {
        let mut shortened = false;
        if !self.quoted.is_empty() {
            let quoted = Value::Object(std::mem::take(&mut self.quoted)).to_string();
            shortened = quoted.chars().count() > MAX_QUOTED;
            self.sentence(format!("Also applies: {}", clip(&quoted, MAX_QUOTED)));
        }
        if !self.sentences.is_empty() {
            describe(out, &self.sentences.join(" "));
        }
        shortened
    }
}
