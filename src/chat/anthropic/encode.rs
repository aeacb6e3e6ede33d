//! Writes the request body of the Anthropic dialect (docs/protocol.md#messages-body).
//!
//! The dialect has two roles. Everything between two answers becomes one user message, which must hold all results of the answer
//! before it. Later instructions stand there as `<system>` text, at their place, because moving them to the head would cost
//! the whole prompt cache.

use std::borrow::Cow;
use std::ops::Range;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::chat::request::body;
use crate::chat::request::body::BodyOptions;
use crate::chat::request::normalize::{AssistantBlock, AssistantItem, Conversation, Item, is_signature};
use crate::chat::request::tool_choice::{ToolChoice, wire_name};
use crate::chat::request::tool_schema::WireTool;
use crate::chat::request::transcript::Part;
use crate::files::{MediaKind, MediaRef};

/// Text for a tool that returned nothing.
const NO_OUTPUT: &str = "(no tool output)";

/// Writes the body as JSON.
pub fn encode(conversation: &Conversation<'_>, options: &BodyOptions) -> serde_json::Result<Vec<u8>> {
    let marks = options.prompt_cache_key.is_some();
    let (system, turns) = match conversation.turns.as_slice() {
        [Item::System(text), rest @ ..] => (Some(text.as_ref()), rest),
        turns => (None, turns),
    };
    let thinking = options.thinking.as_ref();
    let keep = thinking.filter(|thinking| thinking.enabled()).and_then(|thinking| thinking.keep.as_deref());
    let choice = options.tool_choice.clone().filter(|_| !conversation.tools.is_empty());
    let mut messages: Vec<MessagesMessage<'_>> =
        runs(turns).map(|run| message(&turns[run], options.thinks() && thinking.is_some())).collect();
    if let Some(last) = messages.last_mut().filter(|last| marks && last.role == "user") {
        last.mark();
    }
    let wire = MessagesBody {
        model: &options.model,
        stream: true,
        metadata: options.prompt_cache_key.as_deref().map(|user_id| Metadata { user_id }),
        thinking: thinking.map(|thinking| TypeMember { kind: thinking.kind }),
        output_config: thinking.and_then(|thinking| thinking.effort.as_deref()).map(|effort| OutputConfig { effort }),
        context_management: keep
            .map(|keep| ContextManagement { edits: [Edit { kind: "clear_thinking_20251015", keep }] }),
        temperature: options.temperature,
        top_p: options.top_p,
        stop_sequences: &options.stop,
        tool_choice: choice.map(|choice| match choice {
            ToolChoice::Auto => json!({ "type": "auto" }),
            ToolChoice::None => json!({ "type": "none" }),
            ToolChoice::Required => json!({ "type": "any" }),
            ToolChoice::Named(name) => json!({ "type": "tool", "name": wire_name(&conversation.renamed, &name) }),
        }),
        tools: tools(&conversation.tools, marks),
        system: system.map(|text| [WireBlock::Text { text: text.into(), cache_control: marks.then_some(EPHEMERAL) }]),
        messages,
        max_tokens: options.max_completion_tokens,
    };
    body::write(
        &wire,
        conversation.body_bytes,
        body::flatten_extra_body(&options.extra, "max_tokens", &["max_completion_tokens", "stream_options"]),
    )
}

/// Returns the items behind each message of the body, as ranges of the conversation's items.
pub fn turns_of_messages<'t>(turns: &'t [Item<'_>]) -> impl Iterator<Item = Range<usize>> + 't {
    let head = usize::from(matches!(turns.first(), Some(Item::System(_))));
    runs(&turns[head..]).map(move |run| run.start + head..run.end + head)
}

/// Splits the items into messages: each answer is one, and so is everything between two answers.
fn runs<'t>(turns: &'t [Item<'_>]) -> impl Iterator<Item = Range<usize>> + 't {
    let mut at = 0;
    std::iter::from_fn(move || {
        let first = turns.get(at)?;
        let start = at;
        at += 1;
        if !matches!(first, Item::Assistant(_)) {
            while turns.get(at).is_some_and(|turn| !matches!(turn, Item::Assistant(_))) {
                at += 1;
            }
        }
        Some(start..at)
    })
}

fn message<'a>(run: &'a [Item<'a>], thinks: bool) -> MessagesMessage<'a> {
    if let [Item::Assistant(answer)] = run {
        return MessagesMessage { role: "assistant", content: assistant(answer, thinks) };
    }
    let mut content = Vec::with_capacity(run.len());
    for turn in run {
        match turn {
            Item::System(text) => content.push(text_block(format!("<system>\n{text}\n</system>").into())),
            Item::User(parts) => content.extend(parts.iter().map(block)),
            Item::ToolResult { call_id, parts, is_error } => content.push(WireBlock::ToolResult {
                tool_use_id: call_id,
                content: result(parts),
                is_error: is_error.then_some(true),
                cache_control: None,
            }),
            Item::Tools(_) | Item::Assistant(_) => {}
        }
    }
    MessagesMessage { role: "user", content }
}

fn assistant<'a>(answer: &'a AssistantItem<'a>, thinks: bool) -> Vec<WireBlock<'a>> {
    let mut content: Vec<WireBlock<'a>> = Vec::with_capacity(answer.blocks.len() + 1);
    let mut reasoned = false;
    for block in &answer.blocks {
        match block {
            AssistantBlock::Text(text) => content.push(text_block(text.as_ref().into())),
            AssistantBlock::Thinking { text, signature, .. } => {
                let signature = Some(signature.as_ref()).filter(|signature| is_signature(signature));
                if text.trim().is_empty() && signature.is_none() {
                    continue;
                }
                reasoned = true;
                content.push(WireBlock::Thinking { thinking: text, signature });
            }
            AssistantBlock::Redacted(data) => {
                reasoned = true;
                content.push(WireBlock::RedactedThinking { data });
            }
            AssistantBlock::Call { id, name, arguments } => {
                content.push(WireBlock::ToolUse { id, name, input: Verbatim(arguments) });
            }
        }
    }
    // An answer that called tools while thinking is refused without its reasoning (docs/protocol.md#messages-thinking).
    if thinks && !reasoned && answer.has_calls() {
        content.insert(0, WireBlock::Thinking { thinking: "", signature: None });
    }
    content
}

/// Converts a tool result. Texts alone become one block, as in the other dialect; beside images they keep their places.
fn result<'a>(parts: &'a [Part<'a>]) -> Vec<WireBlock<'a>> {
    if parts.iter().all(|part| matches!(part, Part::Text(_))) {
        let texts: Vec<&str> = parts
            .iter()
            .filter_map(|part| if let Part::Text(text) = part { Some(text.as_ref()) } else { None })
            .collect();
        let text = if let [text] = texts.as_slice() { Cow::Borrowed(*text) } else { Cow::Owned(texts.join("\n")) };
        return vec![text_block(if text.trim().is_empty() { NO_OUTPUT.into() } else { text })];
    }
    parts.iter().filter(|part| !matches!(part, Part::Text(text) if text.trim().is_empty())).map(block).collect()
}

fn block<'a>(part: &'a Part<'a>) -> WireBlock<'a> {
    match part {
        Part::Text(text) => text_block(text.as_ref().into()),
        Part::MediaRef(media) => media_block(media.media_type.kind, WireSource::Placeholder(media)),
        Part::Link { kind, url } => media_block(*kind, WireSource::Link { kind: "url", url }),
        // Normalization leaves none.
        Part::Media { kind, .. } => text_block(kind.word().into()),
    }
}

fn media_block(kind: MediaKind, source: WireSource<'_>) -> WireBlock<'_> {
    match kind {
        MediaKind::Image => WireBlock::Image { source, cache_control: None },
        MediaKind::Video => WireBlock::Video { source, cache_control: None },
    }
}

fn text_block(text: Cow<'_, str>) -> WireBlock<'_> {
    WireBlock::Text { text, cache_control: None }
}

fn tools<'a>(tools: &'a [WireTool<'a>], marks: bool) -> Vec<WireToolEntry<'a>> {
    let mut entries: Vec<WireToolEntry<'_>> = tools
        .iter()
        .map(|tool| WireToolEntry {
            name: &tool.name,
            description: &tool.description,
            input_schema: tool.parameters(),
            cache_control: None,
        })
        .collect();
    if let Some(last) = entries.last_mut().filter(|_| marks) {
        last.cache_control = Some(EPHEMERAL);
    }
    entries
}

#[derive(Serialize)]
struct MessagesBody<'a> {
    model: &'a str,
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Metadata<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<TypeMember>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<OutputConfig<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context_management: Option<ContextManagement<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    stop_sequences: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<WireToolEntry<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<[WireBlock<'a>; 1]>,
    messages: Vec<MessagesMessage<'a>>,
    max_tokens: u64,
}

#[derive(Serialize)]
struct Metadata<'a> {
    user_id: &'a str,
}

#[derive(Serialize)]
struct TypeMember {
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Serialize)]
struct OutputConfig<'a> {
    effort: &'a str,
}

#[derive(Serialize)]
struct ContextManagement<'a> {
    edits: [Edit<'a>; 1],
}

#[derive(Serialize)]
struct Edit<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    keep: &'a str,
}

/// Cache mark. The official client sends it; the service accepts it and caches without it as well
/// (docs/protocol.md#prompt-cache).
const EPHEMERAL: TypeMember = TypeMember { kind: "ephemeral" };

#[derive(Serialize)]
struct WireToolEntry<'a> {
    name: &'a str,
    description: &'a str,
    input_schema: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<TypeMember>,
}

#[derive(Serialize)]
struct MessagesMessage<'a> {
    role: &'static str,
    content: Vec<WireBlock<'a>>,
}

impl MessagesMessage<'_> {
    /// Marks the last block as the end of a prefix to cache.
    fn mark(&mut self) {
        if let Some(
            WireBlock::Text { cache_control, .. }
            | WireBlock::Image { cache_control, .. }
            | WireBlock::Video { cache_control, .. }
            | WireBlock::ToolResult { cache_control, .. },
        ) = self.content.last_mut()
        {
            *cache_control = Some(EPHEMERAL);
        }
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum WireBlock<'a> {
    Text {
        text: Cow<'a, str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<TypeMember>,
    },
    Image {
        source: WireSource<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<TypeMember>,
    },
    Video {
        source: WireSource<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<TypeMember>,
    },
    /// Reasoning. Kimi streams it without a signature and takes it back without one.
    Thinking {
        thinking: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        signature: Option<&'a str>,
    },
    RedactedThinking {
        data: &'a str,
    },
    ToolUse {
        id: &'a str,
        name: &'a str,
        input: Verbatim<'a>,
    },
    ToolResult {
        tool_use_id: &'a str,
        content: Vec<WireBlock<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        is_error: Option<bool>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<TypeMember>,
    },
}

#[derive(Serialize)]
#[serde(untagged)]
enum WireSource<'a> {
    /// A placeholder token, filled once the media is inlined or uploaded.
    Placeholder(&'a MediaRef),
    Link {
        #[serde(rename = "type")]
        kind: &'static str,
        url: &'a str,
    },
}

/// JSON text that is written unchanged.
struct Verbatim<'a>(&'a str);

impl Serialize for Verbatim<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}
