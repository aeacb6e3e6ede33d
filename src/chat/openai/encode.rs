//! Conversation → request body of the OpenAI dialect (protocol reference §6.2–6.5, kimi-code-2.1 §6).
//!
//! Order matters twice. What stays the same from turn to turn (tools, history) comes before what changes (the output cap), so that
//! the bytes of two consecutive bodies share the longest possible prefix; and within a message members keep one order.

use std::borrow::Cow;

use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::super::body::{self, BodyOptions, ToolChoice, wire_name};
use super::super::repair::{Answer, AnswerBlock, Conversation, Turn};
use super::super::thinking::Thinking;
use super::super::tool_schema::WireTool;
use super::super::transcript::Part;
use crate::files::{Inset, Kind};

/// What a tool said that said nothing; Pi's words.
const NO_OUTPUT: &str = "(no tool output)";

/// The body as JSON bytes. Message `n` of the body is turn `n` of the conversation.
pub fn encode(conversation: &Conversation<'_>, options: &BodyOptions) -> serde_json::Result<Vec<u8>> {
    let replay = Replay { everywhere: options.keeps_reasoning(), beside_calls: options.thinks() };
    let choice = options.allowed_tool_choice().filter(|_| !conversation.tools.is_empty());
    let wire = Body {
        model: &options.model,
        stream: true,
        stream_options: StreamOptions { include_usage: true },
        prompt_cache_key: options.prompt_cache_key.as_deref(),
        thinking: options.thinking.as_ref(),
        temperature: options.temperature,
        top_p: options.top_p,
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
    body::write(&wire, conversation.body_bytes, body::hoisted(&options.extra, "max_completion_tokens", &["max_tokens"]))
}

/// Where the service misses reasoning that is not there (protocol reference §6.4, rule 4).
#[derive(Clone, Copy)]
struct Replay {
    /// In every answer.
    everywhere: bool,
    /// In answers that call tools.
    beside_calls: bool,
}

#[derive(Serialize)]
struct Body<'a> {
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

#[derive(Clone, Copy)]
struct Tools<'a>(&'a [WireTool<'a>]);

impl Tools<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Tools<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|tool| {
            if tool.is_built_in() {
                ToolEntry { kind: "builtin_function", function: Function { name: &tool.name, definition: None } }
            } else {
                let definition = Definition { description: &tool.description, parameters: tool.parameters() };
                ToolEntry { kind: "function", function: Function { name: &tool.name, definition: Some(definition) } }
            }
        }))
    }
}

#[derive(Serialize)]
struct ToolEntry<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    #[serde(flatten)]
    definition: Option<Definition<'a>>,
}

#[derive(Serialize)]
struct Definition<'a> {
    description: &'a str,
    parameters: &'a RawValue,
}

struct Messages<'a> {
    turns: &'a [Turn<'a>],
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

#[derive(Default, Serialize)]
struct WireMessage<'a> {
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
    fn from(turn: &'a Turn<'a>, replay: Replay) -> Self {
        match turn {
            Turn::System(text) => {
                Self { role: "system", content: Some(WireContent::Text(text.as_ref().into())), ..Self::default() }
            }
            Turn::Tools(tools) => Self { role: "system", tools: Some(Tools(tools)), ..Self::default() },
            Turn::User(parts) => Self { role: "user", content: Some(content(parts)), ..Self::default() },
            Turn::ToolResult { call_id, parts, .. } => {
                Self { role: "tool", tool_call_id: Some(call_id), content: Some(result(parts)), ..Self::default() }
            }
            Turn::Assistant(answer) => Self::assistant(answer, replay),
        }
    }

    fn assistant(answer: &'a Answer<'a>, replay: Replay) -> Self {
        let mut message = Self { role: "assistant", ..Self::default() };
        let mut texts: Vec<&str> = Vec::new();
        let mut thoughts: Vec<&str> = Vec::new();
        let mut field: Option<&str> = None;
        for block in &answer.blocks {
            match block {
                AnswerBlock::Text(text) => texts.push(text),
                AnswerBlock::Thinking { text, signature, details } => {
                    if !text.trim().is_empty() {
                        field = field.or(Some(signature));
                        thoughts.push(text);
                    }
                    field = field.or(if text.trim().is_empty() { Some("") } else { None });
                    message.reasoning_details.extend(details);
                }
                AnswerBlock::Redacted(_) => {}
                AnswerBlock::Call { id, name, arguments } => {
                    message.tool_calls.push(WireCall {
                        id,
                        kind: "function",
                        function: WireFunction { name, arguments },
                    });
                }
            }
        }
        // Blank content beside tool calls is refused ("text content is empty"); nothing at all is refused as well.
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
        let demanded = replay.everywhere || (replay.beside_calls && !message.tool_calls.is_empty());
        if demanded && message.reasoning_content.is_none() {
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
    /// Filled once it is known whether it is a reference.
    Gap(&'a Inset),
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

/// One text part is sent as a plain string, as the official client does.
fn content<'a>(parts: &'a [Part<'a>]) -> WireContent<'a> {
    match parts {
        [Part::Text(text)] => WireContent::Text(text.as_ref().into()),
        parts => WireContent::Parts(parts.iter().map(wire_part).collect()),
    }
}

/// Tool output without images is one string, its texts joined by line breaks as Pi joins them.
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
        Part::Inset(inset) => media_part(inset.media_type.kind, MediaUrl::Gap(inset)),
        Part::Link { kind, url } => media_part(*kind, MediaUrl::Link { url }),
        // Repair leaves none.
        Part::Media { kind, .. } => WirePart::Text { text: kind.word() },
    }
}

fn media_part(kind: Kind, url: MediaUrl<'_>) -> WirePart<'_> {
    match kind {
        Kind::Image => WirePart::ImageUrl { image_url: url },
        Kind::Video => WirePart::VideoUrl { video_url: url },
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::repair::{Target, repair};
    use super::super::super::transcript::Transcript;
    use super::*;
    use crate::files::{Draft, Filling, Shape};

    fn body(json: &str, options: &BodyOptions) -> Value {
        let target = Target { images: true, ..Target::default() };
        let mut conversation = repair(Transcript::parse(json, &[]).unwrap(), target);
        let insets = Draft::number(conversation.insets_mut());
        let inline: Vec<Filling> =
            insets.iter().map(|inset| Filling::Inline(inset.medium.content().unwrap())).collect();
        let draft = Draft::new(encode(&conversation, options).unwrap(), insets, Shape::OpenAi);
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

    /// The captured second turn of the official client (kimi-code-2.1 §6).
    #[test]
    fn a_tool_turn_looks_like_the_official_clients() {
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
    fn every_assistant_message_carries_reasoning_while_it_is_kept() {
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
    fn a_reasoning_only_turn_has_empty_content() {
        let json = r#"{"messages":[{"role":"assistant","provider":"kimi-coding","stopReason":"length","content":[
            {"type":"thinking","thinking":"hm","thinkingSignature":"reasoning_content"}]},{"role":"user","content":"go on"}]}"#;
        let message = &body(json, &thinking_on())["messages"][0];
        assert_eq!(message["content"], "");
        assert_eq!(message["reasoning_content"], "hm");
    }

    #[test]
    fn the_body_of_the_next_turn_begins_with_the_body_of_this_one() {
        let turn = |more: &str| format!(r#"{{"messages":[{{"role":"user","content":"a"}}{more}]}}"#);
        let bytes = |json: &str, cap| {
            let conversation =
                repair(Transcript::parse(json, &[]).unwrap(), Target { images: true, ..Target::default() });
            encode(&conversation, &BodyOptions { max_completion_tokens: cap, ..thinking_on() }).unwrap()
        };
        let first = bytes(&turn(""), 1000);
        let more = r#",{"role":"assistant","provider":"kimi-coding","stopReason":"stop","content":[{"type":"text","text":"b"}]},{"role":"user","content":"c"}"#;
        let second = bytes(&turn(more), 900);
        let shared = first.windows(2).position(|pair| pair == b"}]").unwrap() + 1;
        assert_eq!(first[..shared], second[..shared]);
    }
}
