//! Writes the request body of the OpenAI dialect (docs/protocol.md#chat-body).
//!
//! The order of members is fixed. Tools and history, which stay the same from turn to turn, come before the output cap, which
//! changes, so that two consecutive bodies share the longest possible prefix.

use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::message::{Replay, WireMessage};
use super::tools::Tools;
use crate::chat::request::body;
use crate::chat::request::body::BodyOptions;
use crate::chat::request::normalize::{Conversation, Item};
use crate::chat::request::thinking::Thinking;
use crate::chat::request::tool_choice::{ToolChoice, wire_name};

/// Writes the body as JSON. Message `n` of the body is item `n` of the conversation.
pub fn encode(conversation: &Conversation<'_>, options: &BodyOptions) -> serde_json::Result<Vec<u8>> {
    let replay = Replay { everywhere: options.keeps_reasoning(), beside_calls: options.thinks() };
    let choice = options.tool_choice.clone().filter(|_| !conversation.tools.is_empty());
    let wire = ChatBody {
        model: &options.model,
        stream: true,
        stream_options: StreamOptions { include_usage: true },
        prompt_cache_key: options.prompt_cache_key.as_deref(),
        thinking: options.thinking.as_ref(),
        temperature: options.temperature,
        top_p: options.top_p,
        stop: &options.stop,
        response_format: options.response_format.as_ref(),
        tool_choice: choice.map(|choice| match choice {
            ToolChoice::Auto => json!("auto"),
            ToolChoice::None => json!("none"),
            ToolChoice::Required => json!("required"),
            ToolChoice::Named(name) => {
                json!({ "type": "function", "function": { "name": wire_name(&conversation.renamed, &name) } })
            }
        }),
        tools: Tools(&conversation.tools),
        messages: Messages { turns: &conversation.turns, replay },
        max_completion_tokens: options.max_completion_tokens,
    };
    body::write(
        &wire,
        conversation.body_bytes,
        body::flatten_extra_body(&options.extra, "max_completion_tokens", &["max_tokens"]),
    )
}

#[derive(Serialize)]
struct ChatBody<'a> {
    model: &'a str,
    stream: bool,
    stream_options: StreamOptions,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_cache_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<&'a Thinking>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    stop: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Value>,
    #[serde(skip_serializing_if = "Tools::is_empty")]
    tools: Tools<'a>,
    messages: Messages<'a>,
    max_completion_tokens: u64,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

struct Messages<'a> {
    turns: &'a [Item<'a>],
    replay: Replay,
}

impl Serialize for Messages<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.turns.len()))?;
        for turn in self.turns {
            seq.serialize_element(&WireMessage::from(turn, self.replay))?;
        }
        seq.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::request::normalize::{Target, normalize};
    use crate::chat::request::tool_schema::SchemaCache;
    use crate::chat::request::transcript::Transcript;
    use crate::files::{BodyTemplate, MediaPayload, Shape};

    fn body(json: &str, options: &BodyOptions) -> Value {
        let target = Target { images: true, ..Target::default() };
        let mut conversation = normalize(Transcript::parse(json, &[]).unwrap(), target, &SchemaCache::default());
        let media = BodyTemplate::number(conversation.media_refs_mut());
        let inline: Vec<MediaPayload> =
            media.iter().map(|media| MediaPayload::Inline(media.media_item.content().unwrap())).collect();
        let draft = BodyTemplate::new(encode(&conversation, options).unwrap(), media, Shape::OpenAi);
        serde_json::from_slice(&draft.fill(&inline)).unwrap()
    }

    fn thinking_on() -> BodyOptions {
        BodyOptions {
            model: "k3".into(),
            thinking: Some(Thinking { kind: "enabled", effort: Some("high".into()), keep: Some("all".into()) }),
            max_completion_tokens: 1000,
            prompt_cache_key: Some("session".into()),
            ..BodyOptions::default()
        }
    }

    /// The captured second turn of the official client (docs/protocol.md#openai-dialect).
    #[test]
    fn tool_turn_matches_the_official_clients() {
        let json = r#"{"messages":[{"role":"system","content":"Be brief.","toolsAdded":[{"name":"Read","description":"d","parameters":{"type":"object"}}]},
            {"role":"user","content":"Read with details"},
            {"role":"assistant","provider":"kimi-coding","model":"k3","stopReason":"toolUse","content":[
              {"type":"thinking","thinking":"Plan with summary.","thinkingSignature":"reasoning_content",
               "reasoningDetails":[{"type":"summary","summary":"Plan with summary."},{"type":"encrypted","encrypted":"UGxhbg"}]},
              {"type":"toolCall","id":"Read_0","name":"Read","arguments":{"path":"a.txt"}}]},
            {"role":"toolResult","toolCallId":"Read_0","content":[{"type":"text","text":"content"}]}]}"#;
        assert_eq!(
            body(json, &thinking_on()),
            serde_json::json!({
                "model": "k3", "stream": true, "stream_options": {"include_usage": true}, "prompt_cache_key": "session",
                "thinking": {"type": "enabled", "effort": "high", "keep": "all"},
                "tools": [{"type": "function", "function": {"name": "Read", "description": "d", "parameters": {"type": "object"}}}],
                "messages": [
                    {"role": "system", "content": "Be brief."},
                    {"role": "user", "content": "Read with details"},
                    {"role": "assistant",
                     "tool_calls": [{"id": "Read_0", "type": "function", "function": {"name": "Read", "arguments": "{\"path\":\"a.txt\"}"}}],
                     "reasoning_details": [{"type": "summary", "summary": "Plan with summary."}, {"type": "encrypted", "encrypted": "UGxhbg"}],
                     "reasoning_content": "Plan with summary."},
                    {"role": "tool", "tool_call_id": "Read_0", "content": "content"},
                ],
                "max_completion_tokens": 1000,
            })
        );
    }

    #[test]
    fn every_answer_carries_reasoning_while_it_is_kept() {
        let json = r#"{"messages":[{"role":"user","content":"a"},
            {"role":"assistant","provider":"kimi-coding","stopReason":"stop","content":[{"type":"text","text":"b"}]},
            {"role":"user","content":"c"}]}"#;
        assert_eq!(body(json, &thinking_on())["messages"][1]["reasoning_content"], "");
        let off =
            BodyOptions { thinking: Some(Thinking { kind: "disabled", effort: None, keep: None }), ..thinking_on() };
        assert_eq!(body(json, &off)["messages"][1].get("reasoning_content"), None);
    }

    #[test]
    fn images_stay_inside_the_tool_message() {
        let json = r#"{"messages":[
            {"role":"assistant","provider":"kimi-coding","stopReason":"toolUse","content":[{"type":"toolCall","id":"a","name":"read","arguments":{}}]},
            {"role":"toolResult","toolCallId":"a","content":[{"type":"text","text":"see"},{"type":"image","mimeType":"image/png","data":"aGk="}]}]}"#;
        let content = &body(json, &thinking_on())["messages"][1]["content"];
        assert_eq!(content[0], serde_json::json!({"type": "text", "text": "see"}));
        assert_eq!(content[1]["image_url"]["url"], "data:image/png;base64,aGk=");
    }

    #[test]
    fn reasoning_only_answer_has_empty_content() {
        let json = r#"{"messages":[{"role":"assistant","provider":"kimi-coding","stopReason":"length","content":[
            {"type":"thinking","thinking":"hm","thinkingSignature":"reasoning_content"}]},{"role":"user","content":"go on"}]}"#;
        let message = &body(json, &thinking_on())["messages"][0];
        assert_eq!(message["content"], "");
        assert_eq!(message["reasoning_content"], "hm");
    }

    #[test]
    fn next_body_begins_with_this_one() {
        let turn = |more: &str| format!(r#"{{"messages":[{{"role":"user","content":"a"}}{more}]}}"#);
        let bytes = |json: &str, cap| {
            let conversation = normalize(
                Transcript::parse(json, &[]).unwrap(),
                Target { images: true, ..Target::default() },
                &SchemaCache::default(),
            );
            encode(&conversation, &BodyOptions { max_completion_tokens: cap, ..thinking_on() }).unwrap()
        };
        let first = bytes(&turn(""), 1000);
        let more = r#",{"role":"assistant","provider":"kimi-coding","stopReason":"stop","content":[{"type":"text","text":"b"}]},{"role":"user","content":"c"}"#;
        let second = bytes(&turn(more), 900);
        let shared = first.windows(2).position(|pair| pair == b"}]").unwrap() + 1;
        assert_eq!(first[..shared], second[..shared]);
    }
}
