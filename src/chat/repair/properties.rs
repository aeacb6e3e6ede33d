//! What holds for every conversation: a longer one begins with the bytes of the shorter one, and repair has nothing left to do
//! the second time.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{AnswerBlock, Conversation, Target, Turn, repair};
use crate::chat::body::BodyOptions;
use crate::chat::dialect::Dialect;
use crate::chat::thinking::Thinking;
use crate::chat::transcript::{Part, Transcript};

/// One round of a conversation: what a person says and what follows, complete in itself.
fn round() -> impl Strategy<Value = Vec<Value>> {
    let text = prop::sample::select(vec!["hi", "", "  ", "grüße", "(no content)", "a\nb"]);
    let id = prop::sample::select(vec!["Read:0", "Read:1", "Read_0", "", "call|x/y", "Read_0__2"]);
    let arguments = prop::sample::select(vec!["{}", r#"{"a":1}"#, "null", "[1]", r#""{\"b\":2}""#, r#""half {""#]);
    let image = prop::sample::select(vec!["iVBORw0KGgo=", "/9j/4AAQSkZJRg==", "", "!!", "JVBERi0="]);
    let call = (id, arguments, prop::bool::weighted(0.8));
    let answer = (
        prop::collection::vec(call, 0..3),
        text.clone(),
        prop::option::of(text.clone()),
        prop::sample::select(vec!["stop", "toolUse", "aborted", "error", "length"]),
        prop::sample::select(vec!["kimi-coding", "openai"]),
    );
    (text, prop::option::of(image), prop::collection::vec(answer, 0..3), prop::bool::weighted(0.2)).prop_map(
        |(said, image, answers, late)| {
            let mut messages = Vec::new();
            if late {
                messages.push(json!({ "role": "system", "content": "note", "sections": { "cwd": said } }));
            }
            let mut parts = vec![json!({ "type": "text", "text": said })];
            parts.extend(image.map(|data| json!({ "type": "image", "mimeType": "image/png", "data": data })));
            messages.push(json!({ "role": "user", "content": parts }));
            for (calls, text, thought, stop, provider) in answers {
                let mut content: Vec<Value> = thought
                    .into_iter()
                    .map(|thought| json!({ "type": "thinking", "thinking": thought, "thinkingSignature": "reasoning_content" }))
                    .collect();
                content.push(json!({ "type": "text", "text": text }));
                for (id, arguments, _) in &calls {
                    let arguments: Value = serde_json::from_str(arguments).unwrap();
                    content.push(json!({ "type": "toolCall", "id": id, "name": "read", "arguments": arguments }));
                }
                messages.push(json!({ "role": "assistant", "provider": provider, "stopReason": stop, "content": content }));
                for (id, _, answered) in &calls {
                    if *answered {
                        messages.push(json!({ "role": "toolResult", "toolCallId": id, "content": [{ "type": "text", "text": text }] }));
                    }
                }
            }
            messages
        },
    )
}

fn json_of(rounds: &[Vec<Value>]) -> String {
    let tools =
        json!([{ "name": "read", "description": "d", "parameters": { "properties": { "a": { "enum": [1] } } } }]);
    json!({ "systemPrompt": "s", "tools": tools, "messages": rounds.concat() }).to_string()
}

fn options() -> BodyOptions {
    BodyOptions {
        model: "k3".to_owned(),
        thinking: Some(Thinking { kind: "enabled", effort: None, keep: Some("all".to_owned()) }),
        max_completion_tokens: 1000,
        ..BodyOptions::default()
    }
}

fn body(json: &str, dialect: Dialect) -> String {
    let target = Target { images: true, videos: true, late_tools: false, anthropic: dialect == Dialect::Anthropic };
    let conversation = repair(Transcript::parse(json, &[]).unwrap(), target);
    String::from_utf8(dialect.encode(&conversation, &options()).unwrap()).unwrap()
}

/// Everything up to the end of the messages.
fn until_boundary(body: &str, dialect: Dialect) -> &str {
    let cap = if dialect == Dialect::Anthropic { "]}],\"max_tokens\"" } else { "],\"max_completion_tokens\"" };
    &body[..body.rfind(cap).unwrap()]
}

/// A repaired conversation as a transcript again.
fn recorded(conversation: &Conversation<'_>) -> String {
    let parts = |parts: &[Part<'_>]| -> Vec<Value> {
        parts
            .iter()
            .map(|part| match part {
                Part::Text(text) => json!({ "type": "text", "text": text }),
                Part::Inset(inset) => json!({ "type": "image", "mimeType": inset.media_type.mime,
                    "data": STANDARD.encode(inset.medium.content().unwrap()) }),
                part => panic!("{part:?} is left"),
            })
            .collect()
    };
    let messages: Vec<Value> = conversation
        .turns
        .iter()
        .enumerate()
        .map(|(position, turn)| match turn {
            Turn::System(text) if position == 0 => json!({ "role": "system", "content": text,
                "toolsAdded": conversation.tools.iter().map(|tool| json!({ "name": tool.name, "description": tool.description,
                    "parameters": tool.parameters() })).collect::<Vec<_>>() }),
            Turn::System(text) => json!({ "role": "system", "content": text }),
            Turn::Tools(_) => json!({ "role": "system", "content": "" }),
            Turn::User(own) => json!({ "role": "user", "content": parts(own) }),
            Turn::ToolResult { call_id, parts: own, is_error } => {
                json!({ "role": "toolResult", "toolCallId": call_id, "content": parts(own), "isError": is_error })
            }
            Turn::Assistant(answer) => {
                let blocks = answer.blocks.iter().map(|block| match block {
                    AnswerBlock::Text(text) => json!({ "type": "text", "text": text }),
                    AnswerBlock::Thinking { text, signature, .. } => {
                        json!({ "type": "thinking", "thinking": text, "thinkingSignature": signature })
                    }
                    AnswerBlock::Redacted(data) => {
                        json!({ "type": "thinking", "thinking": "", "redacted": true, "thinkingSignature": data })
                    }
                    AnswerBlock::Call { id, name, arguments } => {
                        let arguments: Value = serde_json::from_str(arguments).unwrap();
                        json!({ "type": "toolCall", "id": id, "name": name, "arguments": arguments })
                    }
                });
                json!({ "role": "assistant", "provider": "kimi-coding", "stopReason": "stop", "content": blocks.collect::<Vec<_>>() })
            }
        })
        .collect();
    json!({ "messages": messages }).to_string()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_longer_conversation_begins_with_the_shorter_one(rounds in prop::collection::vec(round(), 2..6), cut in 1..5usize) {
        let cut = cut.min(rounds.len() - 1);
        for dialect in [Dialect::OpenAi, Dialect::Anthropic] {
            let (short, long) = (body(&json_of(&rounds[..cut]), dialect), body(&json_of(&rounds), dialect));
            // A conversation in which nobody has said anything yet is the one exception: it needs a word to be accepted.
            let boundary = until_boundary(&short, dialect);
            prop_assert!(long.starts_with(boundary), "{dialect:?}\n{boundary}\n{long}");
        }
    }

    #[test]
    fn repair_has_nothing_to_do_the_second_time(rounds in prop::collection::vec(round(), 1..5)) {
        let json = json_of(&rounds);
        for dialect in [Dialect::OpenAi, Dialect::Anthropic] {
            let target = Target { images: true, videos: true, late_tools: false, anthropic: dialect == Dialect::Anthropic };
            let once = repair(Transcript::parse(&json, &[]).unwrap(), target);
            prop_assert_eq!(body(&json, dialect), body(&recorded(&once), dialect));
        }
    }
}
