//! Pi's context as it stands in the JSON text, before it is interpreted.
//!
//! One flat record per message is much cheaper to read than a tagged union. Every member is lenient, because a session may
//! have been written by any version of Pi, by an import, or by hand. Strings without escapes borrow from the text.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::json::lenient::{Count, Text};

/// Pi's context in either shape.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RawContext<'a> {
    /// In the first shape only.
    #[serde(borrow)]
    pub system_prompt: Option<Cow<'a, str>>,
    /// In the first shape only.
    #[serde(borrow)]
    pub tools: Option<Vec<RawTool<'a>>>,
    /// Messages, oldest first.
    #[serde(borrow)]
    pub messages: Vec<RawMessage<'a>>,
}

/// The messages as text, to find the unreadable one.
#[derive(Debug, Default, Deserialize)]
pub struct UnreadContext<'a> {
    #[serde(borrow, default)]
    pub messages: Vec<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct RawTool<'a> {
    #[serde(borrow)]
    pub name: Text<'a>,
    #[serde(borrow)]
    pub description: Text<'a>,
    #[serde(borrow)]
    pub parameters: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RawMessage<'a> {
    #[serde(borrow)]
    pub role: Text<'a>,
    #[serde(borrow)]
    pub content: RawContent<'a>,
    // system
    pub sections: Option<Map<String, Value>>,
    #[serde(borrow)]
    pub tools_added: Option<Vec<RawTool<'a>>>,
    #[serde(borrow)]
    pub tools_removed: Option<Vec<RawTool<'a>>>,
    // assistant
    #[serde(borrow)]
    pub provider: Text<'a>,
    #[serde(borrow)]
    pub model: Text<'a>,
    #[serde(borrow)]
    pub stop_reason: Text<'a>,
    pub usage: Option<RawUsage>,
    // toolResult
    #[serde(borrow)]
    pub tool_call_id: Text<'a>,
    #[serde(borrow)]
    pub tool_name: Text<'a>,
    #[serde(borrow)]
    pub details: Option<&'a RawValue>,
    pub is_error: Option<bool>,
}

/// Token counts of an earlier answer.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RawUsage {
    /// Input, output and cache together.
    pub total_tokens: Count,
}

/// `content`: a string, a list of parts, or nothing.
#[derive(Debug, Default)]
pub enum RawContent<'a> {
    #[default]
    Nothing,
    Text(Cow<'a, str>),
    Parts(Vec<RawPart<'a>>),
}

impl<'de: 'a, 'a> Deserialize<'de> for RawContent<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ContentVisitor;
        impl<'de> Visitor<'de> for ContentVisitor {
            type Value = RawContent<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of content parts")
            }
            fn visit_borrowed_str<E>(self, v: &'de str) -> Result<Self::Value, E> {
                Ok(RawContent::Text(Cow::Borrowed(v)))
            }
            fn visit_str<E>(self, v: &str) -> Result<Self::Value, E> {
                Ok(RawContent::Text(Cow::Owned(v.to_owned())))
            }
            fn visit_string<E>(self, v: String) -> Result<Self::Value, E> {
                Ok(RawContent::Text(Cow::Owned(v)))
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(RawContent::Nothing)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut parts = Vec::with_capacity(seq.size_hint().unwrap_or(0));
                while let Some(part) = seq.next_element()? {
                    parts.push(part);
                }
                Ok(RawContent::Parts(parts))
            }
        }
        deserializer.deserialize_any(ContentVisitor)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RawPart<'a> {
    #[serde(rename = "type", borrow)]
    pub kind: Text<'a>,
    #[serde(borrow)]
    pub text: Text<'a>,
    #[serde(borrow)]
    pub thinking: Text<'a>,
    #[serde(borrow)]
    pub thinking_signature: Text<'a>,
    pub redacted: Option<bool>,
    pub reasoning_details: Option<Value>,
    #[serde(borrow)]
    pub id: Text<'a>,
    #[serde(borrow)]
    pub name: Text<'a>,
    #[serde(borrow)]
    pub arguments: Option<&'a RawValue>,
    #[serde(borrow)]
    pub mime_type: Text<'a>,
    #[serde(borrow)]
    pub data: Text<'a>,
    /// Index into the media beside the JSON text.
    pub media: Option<usize>,
    #[serde(rename = "image_url", borrow)]
    pub image_url: Option<RawUrl<'a>>,
    #[serde(rename = "video_url", borrow)]
    pub video_url: Option<RawUrl<'a>>,
    // Anthropic's form
    #[serde(borrow)]
    pub source: Option<RawSource<'a>>,
    #[serde(borrow)]
    pub input: Option<&'a RawValue>,
    #[serde(borrow)]
    pub signature: Text<'a>,
    #[serde(rename = "tool_use_id", borrow)]
    pub tool_use_id: Text<'a>,
    #[serde(borrow)]
    pub content: Option<&'a RawValue>,
    #[serde(rename = "is_error")]
    pub is_error: Option<bool>,
}

/// Where the bytes of an image or video are, in Anthropic's form.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct RawSource<'a> {
    #[serde(rename = "type", borrow)]
    pub kind: Text<'a>,
    #[serde(borrow)]
    pub media_type: Text<'a>,
    #[serde(borrow)]
    pub data: Text<'a>,
    #[serde(borrow)]
    pub url: Text<'a>,
}

/// A URL, bare or as the member `url` of an object.
#[derive(Debug, Default)]
pub struct RawUrl<'a>(pub Text<'a>);

impl<'de: 'a, 'a> Deserialize<'de> for RawUrl<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form<'a> {
            Object {
                #[serde(borrow, default)]
                url: Text<'a>,
            },
            Bare(#[serde(borrow)] Text<'a>),
        }
        Form::deserialize(deserializer).map(|form| match form {
            Form::Object { url } | Form::Bare(url) => Self(url),
        })
    }
}
