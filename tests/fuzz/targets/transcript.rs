//! Pi's context as JSON text → a body that the service accepts.

use kimi_code::chat::request::normalize::{Conversation, Item, Target, normalize};
use kimi_code::chat::request::tool_schema::SchemaCache;
use kimi_code::chat::request::transcript::{Part, Transcript};
use kimi_code::config::Dialect;
use kimi_code::json::surrogates::without_lone_surrogates;
use serde_json::Value;

use super::acceptable::refusal;
use super::conversation::{body, capable, options, recorded, until_boundary};

/// Every readable context can be sent, normalizing twice equals normalizing once, and a longer conversation starts with the bytes
/// of the shorter one.
pub fn transcript(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let clean = without_lone_surrogates(text);
    let json = clean.as_deref().unwrap_or(text);
    if let Err(error) = Transcript::parse(json, &[]) {
        assert!(!error.message.is_empty());
        return;
    }
    // JavaScript hands the context over, and cannot write a number that no `f64` holds.
    if serde_json::from_str::<Value>(json).is_err_and(|error| error.to_string().contains("out of range")) {
        return;
    }
    for dialect in [Dialect::OpenAi, Dialect::Anthropic] {
        let blind = Target { anthropic: dialect == Dialect::Anthropic, ..Target::default() };
        for target in [capable(dialect), blind] {
            let mut conversation = normalized(json, target);
            let sent = body(&mut conversation, dialect, &options());
            if let Some(why) = refusal(&sent, dialect) {
                panic!("{dialect:?}: {why}");
            }
            let again = recorded(&conversation);
            assert_eq!(body(&mut normalized(&again, target), dialect, &options()), sent, "{dialect:?}: repaired twice");
        }
        with_extra_members(json, dialect);
        append_only(json, dialect);
    }
}

/// A member added by the caller does not change whether the rest can be sent.
fn with_extra_members(json: &str, dialect: Dialect) {
    let mut options = options();
    options.extra.insert("top_k".to_owned(), 1.into());
    body(&mut normalized(json, capable(dialect)), dialect, &options);
}

/// Splits after every message at which Pi could have sent a request.
fn append_only(json: &str, dialect: Dialect) {
    let Ok(mut context) = serde_json::from_str::<Value>(json) else { return };
    let Some(Value::Array(mut messages)) = context.get_mut("messages").map(Value::take) else { return };
    // Late tools change the start of the request, which is their purpose.
    for message in messages.iter_mut().filter_map(Value::as_object_mut) {
        message.retain(|name, _| !matches!(name.as_str(), "toolsAdded" | "toolsRemoved"));
    }
    messages.truncate(12);
    let target = Target { late_tools: false, ..capable(dialect) };
    let mut shorter: Option<String> = None;
    for end in 1..=messages.len() {
        context["messages"] = Value::from(messages[..end].to_vec());
        let Ok(json) = serde_json::to_string(&context) else { return };
        let mut conversation = normalized(&json, target);
        if !is_complete(&conversation) {
            continue;
        }
        let longer = body(&mut conversation, dialect, &options());
        if let Some(shorter) = &shorter {
            let head = until_boundary(shorter, dialect);
            assert!(longer.starts_with(head), "{dialect:?} at {end}\n{head}\n{longer}");
        }
        shorter = Some(longer);
    }
}

/// There is a user message, and every call has its result.
fn is_complete(conversation: &Conversation<'_>) -> bool {
    let made_up = |parts: &[Part<'_>], words: &str| matches!(parts, [Part::Text(text)] if text == words);
    let mut said = false;
    for turn in &conversation.turns {
        match turn {
            Item::ToolResult { parts, is_error: true, .. } if made_up(parts, "No result provided") => return false,
            Item::User(parts) if made_up(parts, "(no content)") => {}
            Item::User(_) | Item::Assistant(_) => said = true,
            _ => {}
        }
    }
    said
}

fn normalized(json: &str, target: Target) -> Conversation<'_> {
    normalize(Transcript::parse(json, &[]).expect("read before"), target, &SchemaCache::default())
}
