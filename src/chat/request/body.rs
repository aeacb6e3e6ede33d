//! The members of a request body that both encoders share: everything but the conversation.

use std::borrow::Cow;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use super::thinking::Thinking;
use super::tool_choice::ToolChoice;

/// Everything in a body but the conversation.
#[derive(Debug, Clone, Default)]
pub struct BodyOptions {
    /// Wire id of the model.
    pub model: String,
    /// The thinking fields; absent for a model that does not reason.
    pub thinking: Option<Thinking>,
    /// Output cap in tokens, reasoning included.
    pub max_completion_tokens: u64,
    /// Session id; absent when caching is switched off.
    pub prompt_cache_key: Option<String>,
    /// Sent only if configured: some models refuse every value but their own.
    pub temperature: Option<f64>,
    /// Sent only if configured, like `temperature`.
    pub top_p: Option<f64>,
    /// Texts at which the answer ends.
    pub stop: Vec<String>,
    /// Sent only if there are tools.
    pub tool_choice: Option<ToolChoice>,
    /// The form of the answer, as the OpenAI dialect takes it.
    pub response_format: Option<Value>,
    /// Top-level members added by the caller. They replace ours.
    pub extra: Map<String, Value>,
}

impl BodyOptions {
    /// Returns whether the model may reason, which it does unless told not to.
    pub fn thinks(&self) -> bool {
        self.thinking.as_ref().is_none_or(Thinking::enabled)
    }

    /// Returns whether the service keeps the reasoning of earlier turns and therefore requires it.
    pub fn keeps_reasoning(&self) -> bool {
        self.thinking.as_ref().is_some_and(|thinking| thinking.enabled() && thinking.keep.as_deref() == Some("all"))
    }
}

/// Writes the body into a buffer of about `size` bytes. Members of `extra` replace those of the same name.
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

/// An object whose values stay JSON text: a conversation is large and may be nested deeper than a parser follows.
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

/// Returns the caller's top-level members in the form that the service takes.
///
/// Client libraries put members into `extra_body`. The service would ignore them there, so they move to the top level, where
/// existing members win. `reasoning_effort` is dropped because the service refuses or ignores it (docs/protocol.md#chat-body).
/// `own_cap` is the output cap in this dialect, `foreign` lists members of the other one.
pub fn flatten_extra_body(members: &Map<String, Value>, own_cap: &str, foreign: &[&str]) -> Map<String, Value> {
    let mut extra = members.clone();
    for nest in ["extra_body", "extraBody"] {
        if let Some(Value::Object(inner)) = extra.shift_remove(nest) {
            for (name, value) in inner {
                extra.entry(name).or_insert(value);
            }
        }
    }
    // The answer is always read as a stream.
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
    use std::collections::HashMap;

    use serde_json::json;

    use super::*;

    #[test]
    fn extra_members_replace_ours_in_place_and_are_appended_otherwise() {
        let extra = json!({ "b": [1], "c": null });
        let written = write(&json!({ "a": 1, "b": 2 }), 0, extra.as_object().cloned().unwrap_or_default()).unwrap();
        assert_eq!(written, br#"{"a":1,"b":[1],"c":null}"#);
    }

    /// Arguments may be nested as deep as a strict parser follows, and they lie within a message.
    #[test]
    fn extra_members_allow_conversations_of_any_depth() {
        let deep = RawValue::from_string(format!("{}{}", "[".repeat(1000), "]".repeat(1000))).unwrap();
        let extra = json!({ "top_k": 1 });
        let written = write(&HashMap::from([("messages", deep)]), 0, extra.as_object().cloned().unwrap_or_default());
        assert!(written.unwrap().ends_with(br#"]],"top_k":1}"#));
    }
}
