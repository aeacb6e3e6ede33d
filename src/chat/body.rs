//! What the two body encoders share: everything of a request that is not the conversation.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::{Map, Value};

use super::thinking::Thinking;

/// Everything of a body that is not the conversation.
#[derive(Debug, Default)]
pub struct BodyOptions {
    /// Wire id of the model.
    pub model: String,
    /// See `thinking`.
    pub thinking: Option<Thinking>,
    /// Output cap in tokens, reasoning included.
    pub max_completion_tokens: u64,
    /// Session id; absent when caching is unwanted.
    pub prompt_cache_key: Option<String>,
    /// Only if somebody configured it: some models refuse every value but their own.
    pub temperature: Option<f64>,
    /// As `temperature`.
    pub top_p: Option<f64>,
    /// Sent only if there are tools.
    pub tool_choice: Option<ToolChoice>,
    /// Members that a caller wants at the top level; they win over ours.
    pub extra: Map<String, Value>,
}

impl BodyOptions {
    /// Whether the model may reason: it does so unless told not to.
    pub fn thinks(&self) -> bool {
        self.thinking.as_ref().is_none_or(Thinking::enabled)
    }

    /// Whether the service keeps the reasoning of earlier turns, and so demands it.
    pub fn keeps_reasoning(&self) -> bool {
        self.thinking.as_ref().is_some_and(|thinking| thinking.enabled() && thinking.keep.as_deref() == Some("all"))
    }

    /// The tool choice as the service accepts it: while the model thinks, nothing can be forced (protocol reference §6.2).
    pub fn allowed_tool_choice(&self) -> Option<ToolChoice> {
        match &self.tool_choice {
            Some(ToolChoice::Required | ToolChoice::Named(_)) if self.thinks() => Some(ToolChoice::Auto),
            choice => choice.clone(),
        }
    }
}

/// Which tools the model may or must call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolChoice {
    /// As it likes.
    Auto,
    /// None of them.
    None,
    /// One of them.
    Required,
    /// This one, by Pi's name.
    Named(String),
}

impl ToolChoice {
    /// Reads either dialect's spelling; anything else leaves the choice to the model.
    pub fn read(value: &Value) -> Self {
        let kind = value.as_str().or_else(|| value.get("type").and_then(Value::as_str));
        match kind {
            Some("none") => Self::None,
            Some("required" | "any") => Self::Required,
            Some("tool" | "function") => {
                let name = value.get("name").or_else(|| value.pointer("/function/name")).and_then(Value::as_str);
                name.map_or(Self::Auto, |name| Self::Named(name.to_owned()))
            }
            _ => Self::Auto,
        }
    }
}

/// The name on the wire of a tool that Pi knows by another one.
pub fn wire_name<'n>(renamed: &'n HashMap<String, String>, original: &'n str) -> &'n str {
    renamed.iter().find(|(_, known)| *known == original).map_or(original, |(wire, _)| wire)
}

/// Writes the body into a buffer of about `size` bytes. `extra` wins over the members of the same name.
pub fn write<T: Serialize>(body: &T, size: usize, extra: Map<String, Value>) -> serde_json::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(size + 1024);
    serde_json::to_writer(&mut bytes, body)?;
    if extra.is_empty() {
        return Ok(bytes);
    }
    let mut members: Map<String, Value> = serde_json::from_slice(&bytes)?;
    members.extend(extra);
    serde_json::to_vec(&members)
}

/// Members that a caller wants at the top level, in the form that the service takes.
///
/// `extra_body` is an idea of client libraries: its members belong to the top level, where members that are already there
/// win; inside it they would be ignored without a word. `reasoning_effort` is refused or ignored (protocol reference §6.2).
/// `own` are our names for the output cap and for what the other dialect calls it.
pub fn hoisted(wanted: &Map<String, Value>, own_cap: &str, foreign: &[&str]) -> Map<String, Value> {
    let mut extra = wanted.clone();
    for nest in ["extra_body", "extraBody"] {
        if let Some(Value::Object(inner)) = extra.shift_remove(nest) {
            for (name, value) in inner {
                extra.entry(name).or_insert(value);
            }
        }
    }
    // The answer is read as a stream, whatever anybody wishes.
    for refused in ["reasoning_effort", "stream"] {
        extra.shift_remove(refused);
    }
    for name in foreign {
        let Some(value) = extra.shift_remove(*name) else { continue };
        if name.starts_with("max_") {
            extra.entry(own_cap).or_insert(value);
        }
    }
    extra
}
