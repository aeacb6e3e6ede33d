//! Contexts and what they are encoded to, for tests of whole conversations.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kimi_code::chat::request::body::BodyOptions;
use kimi_code::chat::request::normalize::{AssistantBlock, Conversation, Item, Target};
use kimi_code::chat::request::thinking::Thinking;
use kimi_code::chat::request::tool_schema::WireTool;
use kimi_code::chat::request::transcript::Part;
use kimi_code::config::Dialect;
use kimi_code::files::{BodyTemplate, MediaKind, MediaPayload};
use serde_json::Value;

/// A model of this dialect that accepts every input.
pub fn capable(dialect: Dialect) -> Target {
    let anthropic = dialect == Dialect::Anthropic;
    Target { images: true, videos: true, late_tools: !anthropic, anthropic }
}

/// Thinking and an output cap, as in most requests.
pub fn options() -> BodyOptions {
    BodyOptions {
        model: "k3".to_owned(),
        thinking: Some(Thinking { kind: "enabled", effort: None, keep: Some("all".to_owned()) }),
        max_completion_tokens: 1000,
        ..BodyOptions::default()
    }
}

/// The body with all media inline.
pub fn body(conversation: &mut Conversation<'_>, dialect: Dialect, options: &BodyOptions) -> String {
    let insets = BodyTemplate::number(conversation.media_refs_mut());
    let inline: Vec<MediaPayload> =
        insets.iter().map(|inset| MediaPayload::Inline(inset.media_item.content().expect("not released"))).collect();
    let encoded = dialect.encode(conversation, options).expect("a repaired conversation can be encoded");
    String::from_utf8(BodyTemplate::new(encoded, insets, dialect.shape()).fill(&inline)).expect("JSON is text")
}

/// Everything up to the end of the messages.
pub fn until_boundary(body: &str, dialect: Dialect) -> &str {
    let cap = if dialect == Dialect::Anthropic { "]}],\"max_tokens\"" } else { "],\"max_completion_tokens\"" };
    &body[..body.rfind(cap).expect("the output cap follows the messages")]
}

/// A repaired conversation as a transcript again.
pub fn recorded(conversation: &Conversation<'_>) -> String {
    let mut messages = vec![declaration(&conversation.tools)];
    messages.extend(conversation.turns.iter().map(message));
    format!(r#"{{"messages":[{}]}}"#, messages.join(","))
}

fn message(turn: &Item<'_>) -> String {
    match turn {
        Item::System(text) => format!(r#"{{"role":"system","content":{}}}"#, quoted(text)),
        Item::Tools(tools) => declaration(tools),
        Item::User(own) => format!(r#"{{"role":"user","content":{}}}"#, parts(own)),
        Item::ToolResult { call_id, parts: own, is_error } => format!(
            r#"{{"role":"toolResult","toolCallId":{},"content":{},"isError":{is_error}}}"#,
            quoted(call_id),
            parts(own)
        ),
        Item::Assistant(answer) => {
            let blocks: Vec<String> = answer.blocks.iter().map(block).collect();
            format!(
                r#"{{"role":"assistant","provider":"kimi-coding","stopReason":"stop","content":[{}]}}"#,
                blocks.join(",")
            )
        }
    }
}

/// Parameters and arguments keep their bytes.
fn declaration(tools: &[WireTool<'_>]) -> String {
    let tools: Vec<String> = tools
        .iter()
        .map(|tool| {
            let (name, description) = (quoted(&tool.name), quoted(&tool.description));
            format!(r#"{{"name":{name},"description":{description},"parameters":{}}}"#, tool.parameters())
        })
        .collect();
    format!(r#"{{"role":"system","content":"","toolsAdded":[{}]}}"#, tools.join(","))
}

fn block(block: &AssistantBlock<'_>) -> String {
    match block {
        AssistantBlock::Text(text) => format!(r#"{{"type":"text","text":{}}}"#, quoted(text)),
        AssistantBlock::Thinking { text, signature, details } => format!(
            r#"{{"type":"thinking","thinking":{},"thinkingSignature":{},"reasoningDetails":{}}}"#,
            quoted(text),
            quoted(signature),
            Value::from(details.clone())
        ),
        AssistantBlock::Redacted(data) => {
            format!(r#"{{"type":"thinking","thinking":"","redacted":true,"thinkingSignature":{}}}"#, quoted(data))
        }
        AssistantBlock::Call { id, name, arguments } => {
            format!(r#"{{"type":"toolCall","id":{},"name":{},"arguments":{arguments}}}"#, quoted(id), quoted(name))
        }
    }
}

fn parts(parts: &[Part<'_>]) -> String {
    let parts: Vec<String> = parts
        .iter()
        .map(|part| match part {
            Part::Text(text) => format!(r#"{{"type":"text","text":{}}}"#, quoted(text)),
            Part::MediaRef(inset) => {
                let data = STANDARD.encode(inset.media_item.content().expect("not released"));
                format!(
                    r#"{{"type":"{}","mimeType":"{}","data":{}}}"#,
                    inset.media_type.kind.word(),
                    inset.media_type.mime,
                    quoted(&data)
                )
            }
            Part::Link { kind: MediaKind::Image, url } => {
                format!(r#"{{"type":"image_url","image_url":{}}}"#, quoted(url))
            }
            Part::Link { kind: MediaKind::Video, url } => {
                format!(r#"{{"type":"video_url","video_url":{}}}"#, quoted(url))
            }
            Part::Media { .. } => panic!("{part:?} is left"),
        })
        .collect();
    format!("[{}]", parts.join(","))
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
