//! Properties of every conversation: the service accepts it, a longer one starts with the bytes of the shorter one, normalizing it
//! twice changes nothing, and neither do texts that lie beside its JSON.

#[path = "../support/acceptable.rs"]
mod acceptable;
#[path = "../support/conversation.rs"]
mod conversation;

use acceptable::refusal;
use conversation::{body, capable, options, recorded, until_boundary};
use kimi_code::chat::request::normalize::{Conversation, normalize};
use kimi_code::chat::request::tool_schema::SchemaCache;
use kimi_code::chat::request::transcript::{LongTexts, Transcript};
use kimi_code::config::Dialect;
use proptest::prelude::*;
use serde_json::{Value, json};

/// One complete round of a conversation: a user message and what follows.
fn round() -> impl Strategy<Value = Vec<Value>> {
    let text = prop::sample::select(vec!["hi", "", "  ", "grüße", "(no content)", "a\nb"]);
    let id = prop::sample::select(vec!["Read:0", "Read:1", "Read_0", "", "call|x/y", "Read_0__2"]);
    let arguments = prop::sample::select(vec![
        "{}",
        r#"{"a":1}"#,
        r#"{"a":"\"\\\n世","b":" ","c":["x"]}"#,
        "null",
        "[1]",
        r#""{\"b\":2}""#,
        r#""half {""#,
    ]);
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
                    let arguments: Value = serde_json::from_str(arguments).expect("JSON");
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

fn normalized(json: &str, dialect: Dialect) -> Conversation<'_> {
    normalize(Transcript::parse(json, &[]).expect("a readable context"), capable(dialect), &SchemaCache::default())
}

fn sent(json: &str, dialect: Dialect) -> String {
    body(&mut normalized(json, dialect), dialect, &options())
}

/// Takes every text that may lie beside the JSON out of it, however short.
fn texts_beside(json: &str) -> (String, LongTexts) {
    let mut context: Value = serde_json::from_str(json).expect("JSON");
    let (mut all, mut ends) = (String::new(), Vec::new());
    let mut take = |value: Option<&mut Value>| {
        if let Some(value) = value
            && let Value::String(text) = value
        {
            all.push_str(text);
            *value = format!("mark-{}", ends.len()).into();
            ends.push(all.len());
        }
    };
    take(context.get_mut("systemPrompt"));
    for message in context["messages"].as_array_mut().into_iter().flatten() {
        match message.get_mut("content") {
            Some(Value::Array(parts)) => {
                for part in parts {
                    take(part.get_mut("text"));
                    take(part.get_mut("thinking"));
                    if let Some(Value::Object(arguments)) = part.get_mut("arguments") {
                        arguments.values_mut().for_each(|argument| take(Some(argument)));
                    }
                }
            }
            content => take(content),
        }
    }
    (context.to_string(), LongTexts::new("mark-".to_owned(), all, ends))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn conversations_longer_one_starts_with_the_bytes_of_the_shorter_one(rounds in prop::collection::vec(round(), 2..6), cut in 1..5usize) {
        let cut = cut.min(rounds.len() - 1);
        for dialect in [Dialect::OpenAi, Dialect::Anthropic] {
            let (short, long) = (sent(&json_of(&rounds[..cut]), dialect), sent(&json_of(&rounds), dialect));
            // The exception is a conversation without a message: it gets a text so that the service accepts it.
            let boundary = until_boundary(&short, dialect);
            prop_assert!(long.starts_with(boundary), "{dialect:?}\n{boundary}\n{long}");
        }
    }

    #[test]
    fn conversations_normalized_twice_equals_normalized_once(rounds in prop::collection::vec(round(), 1..5)) {
        let json = json_of(&rounds);
        for dialect in [Dialect::OpenAi, Dialect::Anthropic] {
            let once = recorded(&normalized(&json, dialect));
            prop_assert_eq!(sent(&json, dialect), sent(&once, dialect));
        }
    }

    #[test]
    fn conversations_normalized_ones_are_accepted_by_the_service(rounds in prop::collection::vec(round(), 1..5)) {
        let json = json_of(&rounds);
        for dialect in [Dialect::OpenAi, Dialect::Anthropic] {
            prop_assert_eq!(refusal(&sent(&json, dialect), dialect), None);
        }
    }
    #[test]
    fn conversations_texts_beside_the_json_change_no_byte(rounds in prop::collection::vec(round(), 1..5)) {
        let json = json_of(&rounds);
        let (light, texts) = texts_beside(&json);
        for dialect in [Dialect::OpenAi, Dialect::Anthropic] {
            let transcript = Transcript::read(&light, &texts, &[]).expect("a readable context");
            let mut conversation = normalize(transcript, capable(dialect), &SchemaCache::default());
            prop_assert_eq!(body(&mut conversation, dialect, &options()), sent(&json, dialect));
        }
    }
}
