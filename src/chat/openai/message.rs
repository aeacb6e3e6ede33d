//! Writes one message of the OpenAI dialect (docs/protocol.md#messages).

use std::borrow::Cow;

use serde::Serialize;
use serde_json::Value;

use super::tools::Tools;
use crate::chat::request::normalize::{AssistantBlock, AssistantItem, Item};
use crate::chat::request::transcript::Part;
use crate::files::{MediaKind, MediaRef};

/// Pi's text for a tool that returned nothing.
const NO_OUTPUT: &str = "(no tool output)";

/// Which answers must carry reasoning, if only an empty one (docs/protocol.md#reasoning-replay).
#[derive(Clone, Copy)]
pub struct Replay {
    /// Every answer.
    pub everywhere: bool,
    /// Answers that call tools.
    pub beside_calls: bool,
}

/// A message as it is sent.
#[derive(Default, Serialize)]
pub struct WireMessage<'a> {
    role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<WireContent<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<WireCall<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tools: Option<Tools<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasoning_details: Vec<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<Cow<'a, str>>,
}

impl<'a> WireMessage<'a> {
    /// Converts one item of the conversation.
    pub fn from(turn: &'a Item<'a>, replay: Replay) -> Self {
        match turn {
            Item::System(text) => {
                Self { role: "system", content: Some(WireContent::Text(text.as_ref().into())), ..Self::default() }
            }
            Item::Tools(tools) => Self { role: "system", tools: Some(Tools(tools)), ..Self::default() },
            Item::User(parts) => Self { role: "user", content: Some(content(parts)), ..Self::default() },
            Item::ToolResult { call_id, parts, .. } => {
                Self { role: "tool", tool_call_id: Some(call_id), content: Some(result(parts)), ..Self::default() }
            }
            Item::Assistant(answer) => Self::assistant(answer, replay),
        }
    }

    fn assistant(answer: &'a AssistantItem<'a>, replay: Replay) -> Self {
        let mut message = Self { role: "assistant", ..Self::default() };
        let mut texts: Vec<&str> = Vec::new();
        let mut thoughts: Vec<&str> = Vec::new();
        let mut field: Option<&str> = None;
        for block in &answer.blocks {
            match block {
                AssistantBlock::Text(text) => texts.push(text),
                AssistantBlock::Thinking { text, signature, details } => {
                    if !text.trim().is_empty() {
                        field = field.or(Some(signature));
                        thoughts.push(text);
                    }
                    field = field.or(if text.trim().is_empty() { Some("") } else { None });
                    message.reasoning_details.extend(details);
                }
                AssistantBlock::Redacted(_) => {}
                AssistantBlock::Call { id, name, arguments } => {
                    message.tool_calls.push(WireCall {
                        id,
                        kind: "function",
                        function: WireFunction { name, arguments },
                    });
                }
            }
        }
        // Blank content beside tool calls is refused ("text content is empty"), and so is an answer without any content.
        message.content = match (texts.is_empty(), message.tool_calls.is_empty()) {
            (false, _) => Some(WireContent::Text(joined(&texts, ""))),
            (true, true) => Some(WireContent::Text("".into())),
            (true, false) => None,
        };
        match field {
            Some("reasoning") => message.reasoning = Some(joined(&thoughts, "\n")),
            Some(_) => message.reasoning_content = Some(joined(&thoughts, "\n")),
            None => {}
        }
        let required = replay.everywhere || (replay.beside_calls && !message.tool_calls.is_empty());
        if required && message.reasoning_content.is_none() {
            message.reasoning_content = Some("".into());
        }
        message
    }
}

#[derive(Serialize)]
struct WireCall<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    function: WireFunction<'a>,
}

#[derive(Serialize)]
struct WireFunction<'a> {
    name: &'a str,
    arguments: &'a str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum WireContent<'a> {
    Text(Cow<'a, str>),
    Parts(Vec<WirePart<'a>>),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum WirePart<'a> {
    Text { text: &'a str },
    ImageUrl { image_url: MediaUrl<'a> },
    VideoUrl { video_url: MediaUrl<'a> },
}

#[derive(Serialize)]
#[serde(untagged)]
enum MediaUrl<'a> {
    /// A placeholder token, filled once the media is inlined or uploaded.
    Placeholder(&'a MediaRef),
    Link {
        url: &'a str,
    },
}

fn joined<'a>(texts: &[&'a str], separator: &str) -> Cow<'a, str> {
    match texts {
        [text] => Cow::Borrowed(text),
        texts => Cow::Owned(texts.join(separator)),
    }
}

/// Converts the parts. A single text is sent as a plain string, as the official client does.
fn content<'a>(parts: &'a [Part<'a>]) -> WireContent<'a> {
    match parts {
        [Part::Text(text)] => WireContent::Text(text.as_ref().into()),
        parts => WireContent::Parts(parts.iter().map(wire_part).collect()),
    }
}

/// Converts tool output. Without images it is one string, its texts joined by line breaks as in Pi.
fn result<'a>(parts: &'a [Part<'a>]) -> WireContent<'a> {
    let texts: Vec<&str> =
        parts.iter().filter_map(|part| if let Part::Text(text) = part { Some(text.as_ref()) } else { None }).collect();
    let text = joined(&texts, "\n");
    match (texts.len() == parts.len(), text.trim().is_empty()) {
        (true, true) => WireContent::Text(NO_OUTPUT.into()),
        (true, false) => WireContent::Text(text),
        (false, _) => WireContent::Parts(parts.iter().filter(|part| !is_blank(part)).map(wire_part).collect()),
    }
}

fn is_blank(part: &Part<'_>) -> bool {
    matches!(part, Part::Text(text) if text.trim().is_empty())
}

fn wire_part<'a>(part: &'a Part<'a>) -> WirePart<'a> {
    match part {
        Part::Text(text) => WirePart::Text { text },
        Part::MediaRef(media) => media_part(media.media_type.kind, MediaUrl::Placeholder(media)),
        Part::Link { kind, url } => media_part(*kind, MediaUrl::Link { url }),
        // Normalization leaves none.
        Part::Media { kind, .. } => WirePart::Text { text: kind.word() },
    }
}

fn media_part(kind: MediaKind, url: MediaUrl<'_>) -> WirePart<'_> {
    match kind {
        MediaKind::Image => WirePart::ImageUrl { image_url: url },
        MediaKind::Video => WirePart::VideoUrl { video_url: url },
    }
}
