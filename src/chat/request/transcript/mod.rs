//! Reads Pi's conversation into Rust types.
//!
//! Pi hands a conversation over in two shapes: `{systemPrompt, messages, tools}` up to 0.85, and from 0.86 `{messages}` whose
//! system messages carry sections and tool changes (docs/pi-contract.md#context-shapes). Both read alike. Values borrow from
//! the JSON text and the long texts beside it where possible. Tool parameters and call arguments stay JSON text, so that the
//! same history always gives the same bytes.

mod long_texts;
mod raw;
mod stored;

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::{Error, ErrorKind, Result};
use crate::files::{MediaItem, MediaKind, MediaRef, StoredMedia, omitted};
use crate::json::lenient::Text;
use long_texts::NO_TEXTS;
pub use long_texts::{ContextText, LongTexts};
use raw::{RawContent, RawContext, RawMessage, RawPart, RawTool, RawUrl, UnreadContext};

/// An image or video, which travels beside the JSON text because megabytes inside it would block JavaScript
/// (docs/architecture.md#media-beside-the-text).
pub type Media = Arc<MediaItem>;

/// A tool as Pi describes it.
#[derive(Debug, Clone)]
pub struct Tool<'a> {
    /// Name.
    pub name: Cow<'a, str>,
    /// Description for the model.
    pub description: Cow<'a, str>,
    /// JSON Schema, verbatim; may be anything.
    pub parameters: Option<&'a RawValue>,
}

/// A message by role.
#[derive(Debug)]
pub enum Message<'a> {
    /// Instructions and changes of the tools.
    System {
        /// Text, joined from content and sections.
        text: Cow<'a, str>,
        /// Tools that become available here.
        tools_added: Vec<Tool<'a>>,
        /// Names of tools that are removed here.
        tools_removed: Vec<Cow<'a, str>>,
    },
    /// The user.
    User(Vec<Part<'a>>),
    /// An earlier answer.
    Assistant(Assistant<'a>),
    /// The result of a tool call.
    ToolResult {
        /// Id of the call.
        call_id: Cow<'a, str>,
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
    pub provider: Cow<'a, str>,
    /// `stop`, `toolUse`, `length`, `error`, `aborted`.
    pub stop_reason: Cow<'a, str>,
    /// Total tokens when it ended; 0 if unknown.
    pub total_tokens: u64,
    /// Blocks in order.
    pub blocks: Vec<Block<'a>>,
}

/// A block of an earlier answer.
#[derive(Debug)]
pub enum Block<'a> {
    /// Visible text.
    Text(Cow<'a, str>),
    /// Reasoning.
    Thinking {
        /// May be empty.
        text: Cow<'a, str>,
        /// The field name or signature it came with.
        signature: Cow<'a, str>,
        /// `signature` holds an opaque payload.
        redacted: bool,
        /// Entries that are replayed.
        details: Vec<Value>,
    },
    /// A tool call.
    Call {
        /// Id as recorded.
        id: Cow<'a, str>,
        /// Tool name.
        name: Cow<'a, str>,
        /// JSON text of any value; absent if nothing was recorded.
        arguments: Option<Cow<'a, str>>,
    },
}

/// Text, image or video.
#[derive(Debug, Clone)]
pub enum Part<'a> {
    /// Text, possibly empty.
    Text(Cow<'a, str>),
    /// An image or video as Pi has it. Normalization turns it into a `MediaRef` or a note.
    Media {
        /// The kind that Pi declares.
        kind: MediaKind,
        /// The MIME type that Pi declares.
        mime: Cow<'a, str>,
        /// Base64 or a data URL.
        media_item: Media,
    },
    /// An image or video that can be sent.
    MediaRef(MediaRef),
    /// An image or video by its address: `ms://…`, `https://…`
    Link {
        /// The kind that Pi declares.
        kind: MediaKind,
        /// The address, unchanged.
        url: Cow<'a, str>,
    },
}

/// A readable conversation.
#[derive(Debug)]
pub struct Transcript<'a> {
    /// Messages, oldest first.
    pub messages: Vec<Message<'a>>,
    /// Contents that results of our own tool refer to.
    recorded_media: Vec<StoredMedia>,
    /// About as many bytes as its texts take in JSON.
    pub bytes: usize,
}

impl<'a> Transcript<'a> {
    /// Reads Pi's context from JSON text that holds all its texts.
    pub fn parse(json: &'a str, media: &'a [Media]) -> Result<Self> {
        Self::read(json, &NO_TEXTS, media)
    }

    /// Reads Pi's context from JSON text and the texts beside it. `media` holds the images and videos taken out of it.
    pub fn read(json: &'a str, texts: &'a LongTexts, media: &'a [Media]) -> Result<Self> {
        let mut context: RawContext<'a> = serde_json::from_str(json).map_err(|error| unreadable(json, &error))?;
        if let Some(prompt) = &mut context.system_prompt {
            texts.restore_text(prompt)?;
        }
        let mut messages = Vec::with_capacity(context.messages.len() + 1);
        if context.system_prompt.is_some() || context.tools.is_some() {
            messages.push(Message::System {
                text: context.system_prompt.unwrap_or_default(),
                tools_added: tools(context.tools)?,
                tools_removed: Vec::new(),
            });
        }
        let mut recorded_media = Vec::new();
        for (position, mut raw) in context.messages.into_iter().enumerate() {
            texts.restore(&mut raw)?;
            let leading = messages.is_empty();
            let recorded = recorded_media_of(&raw);
            read_message(raw, leading, texts, media, &mut messages)
                .map_err(|error| at_message(position, &error.message))?;
            if let (Some(Message::ToolResult { parts, .. }), Some(media)) = (messages.last_mut(), recorded) {
                parts.push(Part::Link { kind: media.kind, url: media.address().into() });
                recorded_media.push(media);
            }
        }
        // An eighth for escapes.
        let bytes = json.len() + texts.all().len() + texts.all().len() / 8;
        Ok(Self { messages, recorded_media, bytes })
    }
}

fn at_message(position: usize, what: &str) -> Error {
    Error::new(ErrorKind::BadRequest, format!("message {position} of the conversation: {what}"))
}

/// Returns an error that names the unreadable message, where it can be found.
fn unreadable(json: &str, error: &serde_json::Error) -> Error {
    let unreadable_message = serde_json::from_str::<UnreadContext<'_>>(json).ok().and_then(|context| {
        context.messages.iter().enumerate().find_map(|(position, message)| {
            let error = serde_json::from_str::<RawMessage<'_>>(message.get()).err()?;
            Some(at_message(position, &error.to_string()))
        })
    });
    unreadable_message
        .unwrap_or_else(|| Error::new(ErrorKind::BadRequest, format!("the conversation cannot be read: {error}")))
}

/// Returns the content that a result of our own tool refers to.
fn recorded_media_of(raw: &RawMessage<'_>) -> Option<StoredMedia> {
    let details = raw.details.filter(|_| raw.role.as_str() == "toolResult" && raw.is_error != Some(true))?;
    StoredMedia::of_details(raw.tool_name.as_str(), details.get())
}

/// Reads one message. In Anthropic's form a user message may hold results of calls, which are messages of their own here.
fn read_message<'a>(
    raw: RawMessage<'a>,
    leading: bool,
    texts: &'a LongTexts,
    media: &'a [Media],
    messages: &mut Vec<Message<'a>>,
) -> Result<()> {
    let message = match raw.role.as_str() {
        // The service refuses the role "developer" (docs/protocol.md#messages).
        "system" | "developer" => Message::System {
            text: system_text(&raw, leading),
            tools_added: tools(raw.tools_added)?,
            tools_removed: raw.tools_removed.unwrap_or_default().into_iter().map(|tool| owned(tool.name)).collect(),
        },
        "user" => return read_user_message(raw.content, media, messages),
        "toolResult" => Message::ToolResult {
            call_id: owned(raw.tool_call_id),
            parts: parts(raw.content, media)?,
            is_error: raw.is_error.unwrap_or(false),
        },
        "assistant" => Message::Assistant(Assistant {
            provider: owned(raw.provider),
            stop_reason: owned(raw.stop_reason),
            total_tokens: raw.usage.and_then(|usage| usage.total_tokens.0).unwrap_or(0),
            blocks: blocks(raw.content, texts)?,
        }),
        other => return Err(Error::new(ErrorKind::BadRequest, format!("unknown role {other:?}"))),
    };
    messages.push(message);
    Ok(())
}

fn read_user_message<'a>(content: RawContent<'a>, media: &'a [Media], messages: &mut Vec<Message<'a>>) -> Result<()> {
    let RawContent::Parts(list) = content else {
        messages.push(Message::User(parts(content, media)?));
        return Ok(());
    };
    let empty = list.is_empty();
    let mut own = Vec::with_capacity(list.len());
    for part in list {
        if part.kind.as_str() != "tool_result" {
            own.push(read_part(part, media)?);
            continue;
        }
        if !own.is_empty() {
            messages.push(Message::User(std::mem::take(&mut own)));
        }
        let content = match part.content.map(|text| serde_json::from_str::<RawContent<'a>>(text.get())) {
            None => RawContent::Nothing,
            Some(Ok(content)) => content,
            Some(Err(error)) => return Err(Error::new(ErrorKind::BadRequest, format!("a tool_result: {error}"))),
        };
        messages.push(Message::ToolResult {
            call_id: owned(part.tool_use_id),
            parts: parts(content, media)?,
            is_error: part.is_error.unwrap_or(false),
        });
    }
    if empty || !own.is_empty() {
        messages.push(Message::User(own));
    }
    Ok(())
}

fn owned<'a>(text: Text<'a>) -> Cow<'a, str> {
    text.0.unwrap_or_default()
}

fn tools(raw: Option<Vec<RawTool<'_>>>) -> Result<Vec<Tool<'_>>> {
    let raw = raw.unwrap_or_default();
    if let Some(position) = raw.iter().position(|tool| tool.name.as_str().is_empty()) {
        return Err(Error::new(ErrorKind::BadRequest, format!("tool {position} has no name")));
    }
    let tools = raw.into_iter().map(|tool| Tool {
        name: owned(tool.name),
        description: owned(tool.description),
        parameters: tool.parameters,
    });
    Ok(tools.collect())
}

/// Renders a system message as Pi does (docs/pi-contract.md#system-messages-and-tool-changes): the leading one as its content
/// and sections, a later one as the sections that changed.
fn system_text<'a>(raw: &RawMessage<'a>, leading: bool) -> Cow<'a, str> {
    let mut pieces: Vec<Cow<'a, str>> = Vec::new();
    match &raw.content {
        RawContent::Text(text) => pieces.push(text.clone()),
        RawContent::Parts(parts) => {
            let texts: Vec<&str> =
                parts.iter().filter(|part| part.kind.as_str() == "text").map(|part| part.text.as_str()).collect();
            pieces.push(texts.join("\n").into());
        }
        RawContent::Nothing => {}
    }
    for (name, value) in raw.sections.iter().flatten() {
        match (value.as_str(), leading) {
            (Some(text), true) => pieces.push(text.to_owned().into()),
            (Some(text), false) => {
                pieces.push(format!("Updated system prompt section \"{name}\":\n\n{text}").into());
            }
            (None, true) => {}
            (None, false) => pieces.push(format!("Removed system prompt section \"{name}\".").into()),
        }
    }
    pieces.retain(|piece| !piece.is_empty());
    if pieces.len() < 2 { pieces.pop().unwrap_or_default() } else { pieces.join("\n\n").into() }
}

fn parts<'a>(content: RawContent<'a>, media: &'a [Media]) -> Result<Vec<Part<'a>>> {
    match content {
        RawContent::Nothing => Ok(Vec::new()),
        RawContent::Text(text) => Ok(vec![Part::Text(text)]),
        RawContent::Parts(list) => list.into_iter().map(|part| read_part(part, media)).collect(),
    }
}

fn read_part<'a>(raw: RawPart<'a>, media: &'a [Media]) -> Result<Part<'a>> {
    match raw.kind.as_str() {
        "text" => Ok(Part::Text(owned(raw.text))),
        "image" => media_item(MediaKind::Image, raw, media),
        "video" => media_item(MediaKind::Video, raw, media),
        "image_url" => link(MediaKind::Image, raw, media),
        "video_url" => link(MediaKind::Video, raw, media),
        // One unknown part must not fail the session (docs/protocol.md#messages); the model is told that it is missing.
        other => Ok(Part::Text(format!("(content of unknown type {other:?} omitted)").into())),
    }
}

/// Reads Pi's form of an image or video.
fn media_item<'a>(kind: MediaKind, mut raw: RawPart<'a>, media: &[Media]) -> Result<Part<'a>> {
    if let Some(source) = raw.source.take() {
        if source.kind.as_str() == "url" {
            raw.image_url = Some(RawUrl(source.url));
            return link(kind, raw, media);
        }
        raw.data = source.data;
        raw.mime_type = source.media_type;
    }
    let media_item = match raw.media {
        None => MediaItem::new(Bytes::copy_from_slice(raw.data.as_str().as_bytes())),
        Some(index) => {
            let missing = || Error::new(ErrorKind::Internal, format!("the data of the {} is missing", kind.word()));
            Arc::clone(media.get(index).ok_or_else(missing)?)
        }
    };
    Ok(Part::Media { kind, mime: owned(raw.mime_type), media_item })
}

/// Reads the service's form, which Node programs may use.
fn link<'a>(kind: MediaKind, mut raw: RawPart<'a>, media: &[Media]) -> Result<Part<'a>> {
    let url = match kind {
        MediaKind::Image => raw.image_url.take(),
        MediaKind::Video => raw.video_url.take().or_else(|| raw.image_url.take()),
    };
    let url = owned(url.unwrap_or_default().0);
    let inline = url.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"));
    if raw.media.is_none() && !inline {
        return Ok(if url.trim().is_empty() {
            Part::Text(omitted(kind, "it has no address").into())
        } else {
            Part::Link { kind, url }
        });
    }
    raw.data = Text(Some(url));
    media_item(kind, raw, media)
}

fn blocks<'a>(content: RawContent<'a>, texts: &LongTexts) -> Result<Vec<Block<'a>>> {
    match content {
        RawContent::Nothing => Ok(Vec::new()),
        RawContent::Text(text) => Ok(vec![Block::Text(text)]),
        RawContent::Parts(list) => list.into_iter().map(|raw| block(raw, texts)).collect(),
    }
}

fn block<'a>(raw: RawPart<'a>, texts: &LongTexts) -> Result<Block<'a>> {
    let call = |id, name, arguments: Option<&'a RawValue>| {
        let arguments = arguments.map(|arguments| texts.restore_json(arguments.get())).transpose()?;
        Ok(Block::Call { id: owned(id), name: owned(name), arguments })
    };
    Ok(match raw.kind.as_str() {
        "text" => Block::Text(owned(raw.text)),
        "thinking" => Block::Thinking {
            text: owned(raw.thinking),
            signature: owned(if raw.signature.as_str().is_empty() { raw.thinking_signature } else { raw.signature }),
            redacted: raw.redacted.unwrap_or(false),
            details: if let Some(Value::Array(details)) = raw.reasoning_details { details } else { Vec::new() },
        },
        "toolCall" => return call(raw.id, raw.name, raw.arguments),
        "tool_use" => return call(raw.id, raw.name, raw.input),
        "redacted_thinking" => {
            Block::Thinking { text: Cow::Borrowed(""), signature: owned(raw.data), redacted: true, details: Vec::new() }
        }
        other => Block::Text(format!("(content of unknown type {other:?} omitted)").into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_context_shapes_read_alike() {
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
    fn later_system_message_lists_the_changes() {
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
    fn unreadable_message_is_named() {
        let role =
            Transcript::parse(r#"{"messages":[{"role":"user","content":"x"},{"role":"robot","content":"x"}]}"#, &[]);
        assert_eq!(role.unwrap_err().message, "message 1 of the conversation: unknown role \"robot\"");
        let content =
            Transcript::parse(r#"{"messages":[{"role":"user","content":{"a":1}}]}"#, &[]).unwrap_err().message;
        assert!(content.starts_with("message 0 of the conversation: "), "{content}");
        let tool = Transcript::parse(r#"{"tools":[{"description":"d"}],"messages":[]}"#, &[]).unwrap_err().message;
        assert_eq!(tool, "tool 0 has no name");
    }

    #[test]
    fn part_of_unknown_type_becomes_a_note() {
        let json = r#"{"messages":[{"role":"user","content":[{"type":"smell"}]},{"role":"assistant","content":[{"type":"odour"}]}]}"#;
        let transcript = Transcript::parse(json, &[]).unwrap();
        let Message::User(parts) = &transcript.messages[0] else { panic!("no user message") };
        assert!(matches!(&parts[0], Part::Text(text) if text == "(content of unknown type \"smell\" omitted)"));
        let Message::Assistant(answer) = &transcript.messages[1] else { panic!("no answer") };
        assert!(matches!(&answer.blocks[0], Block::Text(text) if text.contains("odour")));
    }

    #[test]
    fn nulls_and_unexpected_types_in_old_sessions_are_tolerated() {
        let json = r#"{"messages":[{"role":"assistant","content":null,"usage":null,"stopReason":null},
            {"role":"assistant","content":[{"type":"thinking","thinking":null,"thinkingSignature":null},
             {"type":"toolCall","id":7,"name":"x","arguments":null}],"usage":{"totalTokens":"12"}}]}"#;
        let transcript = Transcript::parse(json, &[]).unwrap();
        let Message::Assistant(answer) = &transcript.messages[1] else { panic!("no answer") };
        assert_eq!(answer.total_tokens, 12);
        assert!(matches!(&answer.blocks[1], Block::Call { id, arguments: None, .. } if id == "7"));
    }

    #[test]
    fn anthropic_style_parts_are_calls_results_and_images() {
        let json = r#"{"messages":[{"role":"user","content":"hi"},
            {"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"sig"},{"type":"redacted_thinking","data":"x"},
             {"type":"tool_use","id":"a","name":"read","input":{"path":"p"}},{"type":"tool_use","id":"b","name":"read","input":{}}]},
            {"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":"text"},
             {"type":"tool_result","tool_use_id":"b","is_error":true,"content":[{"type":"text","text":"t"},
              {"type":"image","source":{"type":"base64","media_type":"image/gif","data":"R0lG"}}]},
             {"type":"text","text":"go on"},{"type":"image","source":{"type":"url","url":"https://example.com/x.png"}}]}]}"#;
        let transcript = Transcript::parse(json, &[]).unwrap();
        let Message::Assistant(answer) = &transcript.messages[1] else { panic!("no answer") };
        assert!(matches!(&answer.blocks[0], Block::Thinking { signature, .. } if signature == "sig"));
        assert!(matches!(&answer.blocks[1], Block::Thinking { signature, redacted: true, .. } if signature == "x"));
        assert!(matches!(&answer.blocks[2], Block::Call { id, arguments: Some(input), .. }
            if id == "a" && input == r#"{"path":"p"}"#));
        let [
            ..,
            Message::ToolResult { call_id, parts: first, .. },
            Message::ToolResult { parts: second, is_error: true, .. },
            Message::User(own),
        ] = transcript.messages.as_slice()
        else {
            panic!("{:?}", transcript.messages)
        };
        assert!(call_id == "a" && matches!(&first[0], Part::Text(text) if text == "text"));
        assert!(matches!(&second[1], Part::Media { mime, .. } if mime == "image/gif"));
        assert!(matches!(&own[1], Part::Link { url, .. } if url == "https://example.com/x.png"));
    }

    #[test]
    fn images_are_read_beside_the_text_and_inside_it() {
        let json = r#"{"messages":[{"role":"user","content":[{"type":"image","mimeType":"image/png","media":0},
            {"type":"image","mimeType":"image/gif","data":"R0lG"}]}]}"#;
        let media = vec![MediaItem::new(Bytes::from_static(b"aGk="))];
        let transcript = Transcript::parse(json, &media).unwrap();
        let Message::User(parts) = &transcript.messages[0] else { panic!("no user message") };
        assert!(matches!(&parts[0], Part::Media { media_item, .. } if media_item.content().unwrap() == "hi"));
        assert!(matches!(&parts[1], Part::Media { media_item, mime, .. }
            if media_item.content().unwrap() == "GIF" && mime == "image/gif"));
    }
}
