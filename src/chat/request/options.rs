//! What the two body encoders share: everything of a request that is not the conversation.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use super::thinking::Thinking;

/// Everything of a body that is not the conversation.
#[derive(Debug, Clone, Default)]
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

    /// The tool choice as the service accepts it: while the model thinks, nothing can be forced (docs/protocol.md#chat-body).
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
    let mut members: Members<'_> = serde_json::from_slice(&bytes)?;
    for (name, value) in extra {
        members.set(name, to_raw_value(&value)?);
    }
    serde_json::to_vec(&members)
}

/// An object whose values stay text: those of a conversation are large, and may be nested deeper than a parser follows.
#[derive(Default)]
struct Members<'a>(Vec<(String, Cow<'a, RawValue>)>);

impl Members<'_> {
    fn set(&mut self, name: String, value: Box<RawValue>) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, place)) => *place = Cow::Owned(value),
            None => self.0.push((name, Cow::Owned(value))),
        }
    }
}

impl Serialize for Members<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value.as_ref())))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;
        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Members::default();
                while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                    members.0.push((name, Cow::Borrowed(value)));
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(MembersVisitor)
    }
}

/// Members that a caller wants at the top level, in the form that the service takes.
///
/// `extra_body` is an idea of client libraries: its members belong to the top level, where members that are already there
/// win; inside it they would be ignored without a word. `reasoning_effort` is refused or ignored (docs/protocol.md#chat-body).
/// `own` are our names for the output cap and for what the other dialect calls it.
pub fn flatten_extra_body(wanted: &Map<String, Value>, own_cap: &str, foreign: &[&str]) -> Map<String, Value> {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn extra_members_win_where_ours_stand_and_follow_where_we_have_none() {
        let extra = json!({ "b": [1], "c": null });
        let written = write(&json!({ "a": 1, "b": 2 }), 0, extra.as_object().cloned().unwrap_or_default()).unwrap();
        assert_eq!(written, br#"{"a":1,"b":[1],"c":null}"#);
    }

    /// A call's arguments may be as deep as a strict parser goes, and they lie within a message.
    #[test]
    fn extra_members_do_not_limit_how_deep_a_conversation_nests() {
        let deep = RawValue::from_string(format!("{}{}", "[".repeat(1000), "]".repeat(1000))).unwrap();
        let extra = json!({ "top_k": 1 });
        let written = write(&HashMap::from([("messages", deep)]), 0, extra.as_object().cloned().unwrap_or_default());
        assert!(written.unwrap().ends_with(br#"]],"top_k":1}"#));
    }
}
