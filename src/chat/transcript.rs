//! What Pi has said so far, as Rust types.
//!
//! Pi hands a conversation over in two shapes: `{systemPrompt, messages, tools}` up to 0.85, and from 0.86 `{messages}` whose
//! system messages carry sections and tool changes (pi-extension §3.4). Both are read here; nothing further on knows the
//! difference. Parts that are only passed on (tool parameters, call arguments) stay the text they came as, so that the
//! same history always gives the same bytes.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::error::{Error, ErrorKind, Result};

/// Pi's context, either shape.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Context<'a> {
    /// First shape only.
    #[serde(default)]
    pub system_prompt: Option<String>,
    /// First shape only.
    #[serde(default, borrow)]
    pub tools: Option<Vec<Tool<'a>>>,
    /// All messages, oldest first.
    #[serde(default, borrow)]
    pub messages: Vec<RawMessage<'a>>,
}

/// A tool as Pi describes it.
#[derive(Debug, Clone, Deserialize)]
pub struct Tool<'a> {
    /// Name the model calls it by.
    pub name: String,
    /// For the model.
    #[serde(default)]
    pub description: String,
    /// JSON Schema, verbatim.
    #[serde(default, borrow)]
    pub parameters: Option<&'a RawValue>,
}

/// A message before its role is looked at: one flat record is much cheaper to read than a tagged union.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RawMessage<'a> {
    #[serde(default)]
    role: String,
    #[serde(default, borrow)]
    content: Content<'a>,
    // system
    #[serde(default)]
    sections: Option<Map<String, Value>>,
    #[serde(default, borrow)]
    tools_added: Option<Vec<Tool<'a>>>,
    #[serde(default)]
    tools_removed: Option<Vec<ToolName>>,
    // assistant
    #[serde(default)]
    provider: String,
    #[serde(default)]
    model: String,
    #[serde(default)]
    stop_reason: String,
    #[serde(default)]
    usage: Option<PastUsage>,
    // toolResult
    #[serde(default)]
    tool_call_id: String,
    #[serde(default)]
    is_error: bool,
}

#[derive(Debug, Deserialize)]
struct ToolName {
    name: String,
}

/// Token counts of an earlier answer.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PastUsage {
    /// Everything: input, output, cache.
    pub total_tokens: u64,
}

/// `content`: a string, a list of parts, or nothing.
#[derive(Debug, Default)]
enum Content<'a> {
    #[default]
    Nothing,
    Text(String),
    Parts(Vec<RawPart<'a>>),
}

impl<'de: 'a, 'a> Deserialize<'de> for Content<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct ContentVisitor;
        impl<'de> Visitor<'de> for ContentVisitor {
            type Value = Content<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of content parts")
            }
            fn visit_str<E>(self, v: &str) -> std::result::Result<Self::Value, E> {
                Ok(Content::Text(v.to_owned()))
            }
            fn visit_string<E>(self, v: String) -> std::result::Result<Self::Value, E> {
                Ok(Content::Text(v))
            }
            fn visit_unit<E>(self) -> std::result::Result<Self::Value, E> {
                Ok(Content::Nothing)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Self::Value, A::Error> {
                let mut parts = Vec::new();
                while let Some(part) = seq.next_element()? {
                    parts.push(part);
                }
                Ok(Content::Parts(parts))
            }
        }
        deserializer.deserialize_any(ContentVisitor)
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawPart<'a> {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    text: String,
    #[serde(default)]
    thinking: String,
    #[serde(default)]
    thinking_signature: String,
    #[serde(default)]
    redacted: bool,
    #[serde(default)]
    reasoning_details: Vec<Value>,
    #[serde(default)]
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default, borrow)]
    arguments: Option<&'a RawValue>,
    #[serde(default)]
    mime_type: String,
    #[serde(default, borrow)]
    data: Option<Cow<'a, str>>,
    /// Index into the media that travelled beside the JSON text.
    #[serde(default)]
    media: Option<usize>,
}

/// The base64 of an image, which travels beside the JSON text because megabytes inside it would freeze JavaScript
/// (napi-stack §3.4).
pub type Media = String;

/// A message with its role understood.
#[derive(Debug)]
pub enum Message<'a> {
    /// Instructions, and the tools that exist from here on.
    System {
        /// Text of this message (already joined from content and sections).
        text: String,
        /// Tools that become available.
        tools_added: Vec<Tool<'a>>,
        /// Tools that go away.
        tools_removed: Vec<String>,
    },
    /// The person.
    User(Vec<Part<'a>>),
    /// An earlier answer.
    Assistant(Assistant<'a>),
    /// What a tool returned.
    ToolResult {
        /// Id of the call.
        call_id: String,
        /// Text and images.
        parts: Vec<Part<'a>>,
        /// The tool failed.
        is_error: bool,
    },
}

/// An earlier answer of any model.
#[derive(Debug, Default)]
pub struct Assistant<'a> {
    /// Pi's provider id.
    pub provider: String,
    /// Pi's model id.
    pub model: String,
    /// `stop`, `toolUse`, `length`, `error`, `aborted`.
    pub stop_reason: String,
    /// Total tokens when it ended; 0 if unknown.
    pub total_tokens: u64,
    /// Its blocks in order.
    pub blocks: Vec<Block<'a>>,
}

/// A block of an earlier answer.
#[derive(Debug)]
pub enum Block<'a> {
    /// Visible text.
    Text(String),
    /// Reasoning.
    Thinking {
        /// May be empty.
        text: String,
        /// Field name or signature it came with.
        signature: String,
        /// Opaque payload in `signature`.
        redacted: bool,
        /// Entries to be replayed.
        details: Vec<Value>,
    },
    /// A tool call.
    Call {
        /// As recorded.
        id: String,
        /// Tool name.
        name: String,
        /// JSON text.
        arguments: Cow<'a, str>,
    },
}

/// Text or image.
#[derive(Debug, Clone)]
pub enum Part<'a> {
    /// Text, possibly empty.
    Text(String),
    /// Base64 image.
    Image {
        /// `image/png` …
        mime: String,
        /// Base64.
        data: Cow<'a, str>,
    },
}

/// A readable conversation.
#[derive(Debug)]
pub struct Transcript<'a> {
    /// Oldest first; the first one may be a system message.
    pub messages: Vec<Message<'a>>,
}

impl<'a> Transcript<'a> {
    /// Reads Pi's context from JSON text. `media` are the images taken out of it.
    pub fn parse(json: &'a str, media: &'a [Media]) -> Result<Self> {
        let context: Context<'a> = serde_json::from_str(json)
            .map_err(|error| Error::new(ErrorKind::BadRequest, format!("the conversation cannot be read: {error}")))?;
        let mut messages = Vec::with_capacity(context.messages.len() + 1);
        if context.system_prompt.is_some() || context.tools.is_some() {
            messages.push(Message::System {
                text: context.system_prompt.unwrap_or_default(),
                tools_added: context.tools.unwrap_or_default(),
                tools_removed: Vec::new(),
            });
        }
        for (position, raw) in context.messages.into_iter().enumerate() {
            let leading = messages.is_empty();
            messages.push(understand(raw, leading, media).map_err(|mut error| {
                error.message = format!("message {position} of the conversation: {}", error.message);
                error
            })?);
        }
        Ok(Self { messages })
    }
}

fn understand<'a>(raw: RawMessage<'a>, leading: bool, media: &'a [Media]) -> Result<Message<'a>> {
    match raw.role.as_str() {
        "system" => Ok(Message::System {
            text: system_text(&raw, leading),
            tools_added: raw.tools_added.unwrap_or_default(),
            tools_removed: raw.tools_removed.unwrap_or_default().into_iter().map(|tool| tool.name).collect(),
        }),
        "user" => Ok(Message::User(parts(raw.content, media)?)),
        "toolResult" => Ok(Message::ToolResult {
            call_id: raw.tool_call_id,
            parts: parts(raw.content, media)?,
            is_error: raw.is_error,
        }),
        "assistant" => Ok(Message::Assistant(Assistant {
            provider: raw.provider,
            model: raw.model,
            stop_reason: raw.stop_reason,
            total_tokens: raw.usage.unwrap_or_default().total_tokens,
            blocks: blocks(raw.content)?,
        })),
        other => Err(Error::new(ErrorKind::BadRequest, format!("unknown role {other:?}"))),
    }
}

/// Text of a system message as Pi renders it (pi-extension §3.10): the leading one is its content and its sections, a later
/// one says which section changed.
fn system_text(raw: &RawMessage<'_>, leading: bool) -> String {
    let mut pieces: Vec<String> = Vec::new();
    match &raw.content {
        Content::Text(text) => pieces.push(text.clone()),
        Content::Parts(parts) => pieces.extend(parts.iter().map(|part| part.text.clone())),
        Content::Nothing => {}
    }
    for (name, value) in raw.sections.iter().flatten() {
        match (value.as_str(), leading) {
            (Some(text), true) => pieces.push(text.to_owned()),
            (Some(text), false) => pieces.push(format!("Updated system prompt section \"{name}\":\n\n{text}")),
            (None, true) => {}
            (None, false) => pieces.push(format!("Removed system prompt section \"{name}\".")),
        }
    }
    pieces.retain(|piece| !piece.is_empty());
    pieces.join("\n\n")
}

fn parts<'a>(content: Content<'a>, media: &'a [Media]) -> Result<Vec<Part<'a>>> {
    match content {
        Content::Nothing => Ok(Vec::new()),
        Content::Text(text) => Ok(vec![Part::Text(text)]),
        Content::Parts(list) => list.into_iter().map(|part| understand_part(part, media)).collect(),
    }
}

fn understand_part<'a>(raw: RawPart<'a>, media: &'a [Media]) -> Result<Part<'a>> {
    match raw.kind.as_str() {
        "text" => Ok(Part::Text(raw.text)),
        "image" => {
            let data = match (raw.media, raw.data) {
                (Some(index), _) => Cow::Borrowed(
                    media
                        .get(index)
                        .ok_or_else(|| Error::new(ErrorKind::Internal, "an image got lost on its way"))?
                        .as_str(),
                ),
                (None, Some(data)) => data,
                (None, None) => return Err(Error::new(ErrorKind::BadRequest, "an image without data")),
            };
            Ok(Part::Image { mime: raw.mime_type, data })
        }
        other => Err(Error::new(ErrorKind::BadRequest, format!("unknown content type {other:?}"))),
    }
}

fn blocks<'a>(content: Content<'a>) -> Result<Vec<Block<'a>>> {
    let list = match content {
        Content::Nothing => return Ok(Vec::new()),
        Content::Text(text) => return Ok(vec![Block::Text(text)]),
        Content::Parts(list) => list,
    };
    list.into_iter()
        .map(|raw| match raw.kind.as_str() {
            "text" => Ok(Block::Text(raw.text)),
            "thinking" => Ok(Block::Thinking {
                text: raw.thinking,
                signature: raw.thinking_signature,
                redacted: raw.redacted,
                details: raw.reasoning_details,
            }),
            "toolCall" => Ok(Block::Call {
                id: raw.id,
                name: raw.name,
                arguments: raw.arguments.map_or(Cow::Borrowed("{}"), |raw| Cow::Borrowed(raw.get())),
            }),
            other => Err(Error::new(ErrorKind::BadRequest, format!("unknown content type {other:?}"))),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_shapes_of_a_context_read_alike() {
        let old = r#"{"systemPrompt":"Be brief.","tools":[{"name":"bash","description":"d","parameters":{"type":"object"}}],
            "messages":[{"role":"user","content":"hi","timestamp":1}]}"#;
        let new = r#"{"messages":[{"role":"system","content":"","sections":{"preamble":"Be brief.","gone":null},
            "toolsAdded":[{"name":"bash","description":"d","parameters":{"type":"object"}}],"timestamp":1},
            {"role":"user","content":[{"type":"text","text":"hi"}],"timestamp":1}]}"#;
        for json in [old, new] {
            let transcript = Transcript::parse(json, &[]).unwrap();
            let Message::System { text, tools_added, .. } = &transcript.messages[0] else {
                panic!("no system message")
            };
            assert_eq!(text, "Be brief.");
            assert_eq!(tools_added[0].parameters.unwrap().get(), r#"{"type":"object"}"#);
            assert!(
                matches!(&transcript.messages[1], Message::User(parts) if matches!(&parts[0], Part::Text(t) if t == "hi"))
            );
        }
    }

    #[test]
    fn a_later_system_message_says_what_changed() {
        let json = r#"{"messages":[{"role":"user","content":"x"},
            {"role":"system","content":"Note","sections":{"cwd":"/tmp","old":null}}]}"#;
        let transcript = Transcript::parse(json, &[]).unwrap();
        let Message::System { text, .. } = &transcript.messages[1] else { panic!("no system message") };
        assert_eq!(
            text,
            "Note\n\nUpdated system prompt section \"cwd\":\n\n/tmp\n\nRemoved system prompt section \"old\"."
        );
    }

    #[test]
    fn what_cannot_be_understood_is_named() {
        let role =
            Transcript::parse(r#"{"messages":[{"role":"user","content":"x"},{"role":"robot","content":"x"}]}"#, &[]);
        assert_eq!(role.unwrap_err().message, "message 1 of the conversation: unknown role \"robot\"");
        let part = Transcript::parse(r#"{"messages":[{"role":"user","content":[{"type":"smell"}]}]}"#, &[]);
        assert!(part.unwrap_err().message.contains("unknown content type \"smell\""));
    }

    #[test]
    fn images_come_from_beside_the_text_or_from_within() {
        let json = r#"{"messages":[{"role":"user","content":[{"type":"image","mimeType":"image/png","media":0},
            {"type":"image","mimeType":"image/gif","data":"R0lG"}]}]}"#;
        let media = vec!["aGk=".to_owned()];
        let transcript = Transcript::parse(json, &media).unwrap();
        let Message::User(parts) = &transcript.messages[0] else { panic!("no user message") };
        assert!(matches!(&parts[0], Part::Image { data, .. } if data == "aGk="));
        assert!(matches!(&parts[1], Part::Image { data, mime } if data == "R0lG" && mime == "image/gif"));
    }
}
