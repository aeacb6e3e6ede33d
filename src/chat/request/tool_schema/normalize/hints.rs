//! What the subset has no word for: the model reads it in the description.

use serde_json::{Map, Value};

use super::MAX_QUOTED;
use crate::chat::request::tool_schema::keywords;
use crate::error::clip;

/// The description; a title takes its place unless it merely repeats the name of the property, as generated ones do.
pub fn described(node: &mut Map<String, Value>, name: &str) -> Option<String> {
    let plain = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).collect::<String>().to_lowercase();
    let title = node.shift_remove("title");
    match (node.shift_remove("description"), title) {
        (Some(Value::String(description)), _) if !description.is_empty() => Some(description),
        (_, Some(Value::String(title))) if !name.is_empty() && plain(&title) != plain(name) => Some(title),
        _ => None,
    }
}

/// What goes into the description because the subset has no word for it.
#[derive(Default)]
pub struct Hints {
    sentences: Vec<String>,
    /// Members that are quoted as they are.
    pub also: Map<String, Value>,
}

impl Hints {
    /// Adds a sentence.
    pub fn sentence(&mut self, sentence: String) {
        self.sentences.push(sentence);
    }

    pub(super) fn stray(&mut self, names: Vec<String>) {
        if !names.is_empty() {
            self.sentence(format!("Also required: {}.", names.join(", ")));
        }
    }

    /// Takes everything that is left of a node.
    pub(super) fn rest(&mut self, mut node: Map<String, Value>, kinds: &[&str]) {
        if let Some(Value::String(format)) = node.shift_remove("format") {
            self.sentence(format!("Format: {format}."));
        }
        let examples = node.shift_remove("examples").or_else(|| node.shift_remove("example"));
        if let Some(examples) = examples.filter(|examples| !examples.is_object()) {
            self.sentence(format!("Examples: {}.", clip(&examples.to_string(), 200)));
        }
        let foreign = |word: &str| {
            (keywords::OBJECT.contains(&word) && !kinds.contains(&"object"))
                || (keywords::ARRAY.contains(&word) && !kinds.contains(&"array"))
                || (keywords::STRING.contains(&word) && !kinds.contains(&"string"))
                || (keywords::NUMBER.contains(&word) && !kinds.contains(&"number") && !kinds.contains(&"integer"))
        };
        for (word, value) in node {
            let silent = keywords::is_annotation(&word)
                || matches!(word.as_str(), "type" | "nullable" | "additionalItems" | "$ref" | "required" | "pattern")
                || foreign(&word);
            if !silent {
                self.also.insert(word, value);
            }
        }
    }

    /// The description with everything added.
    pub fn append_to(mut self, description: Option<String>) -> Option<String> {
        if !self.also.is_empty() {
            let quoted = clip(&Value::Object(std::mem::take(&mut self.also)).to_string(), MAX_QUOTED);
            self.sentence(format!("Also applies: {quoted}"));
        }
        let mut pieces: Vec<String> = description.into_iter().collect();
        pieces.append(&mut self.sentences);
        (!pieces.is_empty()).then(|| pieces.join(" "))
    }
}
