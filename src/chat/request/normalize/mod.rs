//! Turns a transcript into the sequence of messages that the service accepts.
//!
//! Deterministic and append-only: a message looks the same in every later request, because the service caches prompts by prefix.
//! So no decision here looks further ahead than the end of the tool exchange it belongs to. The rules follow Pi's own
//! conversion (docs/pi-contract.md#transcript-conversion) and docs/protocol.md#messages.

mod conversation;
mod media;
#[cfg(test)]
mod tests;
mod tool_names;
mod tool_results;

use std::borrow::Cow;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use foldhash::fast::RandomState;
use serde_json::Value;

use super::tool_call_ids::CallIds;
use super::tool_schema::{Direction, SchemaCache, WireTool};
use super::transcript::{Assistant, Block, Message, Part, Tool, Transcript};
use crate::chat::stream::tool_args::{FinalArguments, finalize};
pub use conversation::{AssistantBlock, AssistantItem, Conversation, Item};
use tool_names::ToolNames;
use tool_results::OpenCalls;

/// Placeholder where the service requires a message and there is none.
const NO_CONTENT: &str = "(no content)";

/// What the model and the dialect accept.
#[derive(Debug, Clone, Copy, Default)]
pub struct Target {
    /// The model takes images.
    pub images: bool,
    /// The model takes videos.
    pub videos: bool,
    /// Tools that join in mid-conversation stay where they joined (`supports_dynamic_tools`).
    pub late_tools: bool,
    /// The Anthropic dialect, which carries encrypted reasoning and has no built-in tools of Moonshot.
    pub anthropic: bool,
}

/// Normalizes the transcript for this target.
pub fn normalize<'a>(transcript: Transcript<'a>, target: Target, schemas: &SchemaCache) -> Conversation<'a> {
    let folded = fold_until(&transcript.messages, target.late_tools);
    let mut normalizer = Normalizer {
        target,
        schemas,
        out: Conversation::default(),
        ids: CallIds::default(),
        names: ToolNames::default(),
        open: OpenCalls::default(),
        begun: false,
    };
    normalizer.out.body_bytes = transcript.bytes;
    let mut rest = transcript.messages.into_iter().enumerate().collect::<std::collections::VecDeque<_>>();
    while let Some((position, message)) = rest.pop_front() {
        if matches!(message, Message::User(_))
            && !normalizer.open.result_follows(rest.iter().map(|(_, message)| message))
        {
            normalizer.open.answer_all(&mut normalizer.out.turns);
        }
        normalizer.message(message, position <= folded);
    }
    normalizer.open.answer_all(&mut normalizer.out.turns);
    normalizer.finish()
}

/// Returns the position of the last message whose tools go to the top level. A removed or redeclared tool cannot be expressed
/// further down, so everything up to it is folded (docs/pi-contract.md#system-messages-and-tool-changes).
fn fold_until(messages: &[Message<'_>], late_tools: bool) -> usize {
    if !late_tools {
        return messages.len();
    }
    let mut known: Vec<&str> = Vec::new();
    let mut folded = 0;
    for (position, message) in messages.iter().enumerate() {
        let Message::System { tools_added, tools_removed, .. } = message else { continue };
        let redeclared = tools_added.iter().any(|tool| known.contains(&tool.name.as_ref()));
        if redeclared || !tools_removed.is_empty() {
            folded = position;
        }
        known.extend(tools_added.iter().map(|tool| tool.name.as_ref()));
    }
    folded
}

struct Normalizer<'a, 's> {
    target: Target,
    schemas: &'s SchemaCache,
    out: Conversation<'a>,
    ids: CallIds,
    names: ToolNames,
    /// Calls of the last answer.
    open: OpenCalls<'a>,
    /// The conversation holds more than instructions.
    begun: bool,
}

impl<'a> Normalizer<'a, '_> {
    fn message(&mut self, message: Message<'a>, folded: bool) {
        match message {
            Message::System { text, tools_added, tools_removed } => {
                self.tools(tools_added, &tools_removed, folded);
                if !text.trim().is_empty() {
                    self.count(text.len());
                    self.open.place(Item::System(text), &mut self.out.turns);
                }
            }
            Message::User(parts) => {
                let mut parts = self.parts(parts, "(image omitted: model does not support images)", true);
                if parts.is_empty() && !self.begun {
                    parts.push(Part::Text(NO_CONTENT.into()));
                }
                if !parts.is_empty() {
                    self.count(parts.iter().map(weight).sum());
                    self.begun = true;
                    self.open.place(Item::User(parts), &mut self.out.turns);
                }
            }
            Message::Assistant(assistant) => {
                self.open.answer_all(&mut self.out.turns);
                // An aborted or failed answer is incomplete. Pi skips it as well, and its results find no call.
                if !matches!(assistant.stop_reason.as_ref(), "error" | "aborted") {
                    self.assistant(assistant);
                }
            }
            Message::ToolResult { call_id, parts, is_error } => {
                let Some(call_id) = self.open.take(&call_id) else { return };
                let parts = self.parts(parts, "(tool image omitted: model does not support images)", false);
                self.count(parts.iter().map(weight).sum());
                self.open.add_result(Item::ToolResult { call_id, parts, is_error }, &mut self.out.turns);
            }
        }
    }

    fn tools(&mut self, added: Vec<Tool<'a>>, removed: &[Cow<'a, str>], folded: bool) {
        self.out.tools.retain(|tool| !removed.contains(&tool.original));
        let mut anchored: Vec<WireTool<'a>> = Vec::new();
        let mut here: HashSet<Cow<'a, str>, RandomState> = HashSet::default();
        let listed = if folded { self.out.tools.as_slice() } else { &[] };
        let mut positions: HashMap<Cow<'a, str>, usize, RandomState> =
            listed.iter().enumerate().map(|(at, tool)| (tool.original.clone(), at)).collect();
        for tool in added {
            let name = self.names.wire(&tool.name, !self.target.anthropic);
            if !here.insert(tool.name.clone()) {
                self.note(format!("Tool {}: declared twice at once; the last declaration counts.", tool.name));
            }
            let (tool, note) = WireTool::new(tool, name, self.schemas);
            if let Some(note) = note {
                self.note(note);
            }
            match tool.argument_names() {
                Some(names) => self.out.argument_names.insert(tool.name.clone(), Arc::clone(names)),
                None => self.out.argument_names.remove(&tool.name),
            };
            self.count(tool.description.len() + tool.parameters().get().len());
            let list = if folded { &mut self.out.tools } else { &mut anchored };
            match positions.entry(tool.original.clone()) {
                Entry::Occupied(known) => list[*known.get()] = tool,
                Entry::Vacant(free) => {
                    free.insert(list.len());
                    list.push(tool);
                }
            }
        }
        if !anchored.is_empty() {
            self.open.place(Item::Tools(anchored), &mut self.out.turns);
        }
    }

    fn assistant(&mut self, assistant: Assistant<'a>) {
        let own_provider = assistant.provider == crate::models::PROVIDER_ID;
        let mut answer = AssistantItem::default();
        let mut calls = Vec::new();
        let mut characters = 0;
        for block in assistant.blocks {
            let block = match block {
                Block::Text(text) if text.trim().is_empty() => continue,
                Block::Text(text) => AssistantBlock::Text(text),
                Block::Thinking { redacted: true, signature, .. } => {
                    if !own_provider || !self.target.anthropic || signature.is_empty() {
                        continue;
                    }
                    AssistantBlock::Redacted(signature)
                }
                Block::Thinking { text, signature, details, .. } if own_provider => {
                    AssistantBlock::Thinking { text, signature, details: without_index(details) }
                }
                // Reasoning of another model cannot be replayed as reasoning, so it becomes text.
                Block::Thinking { text, .. } if text.trim().is_empty() => continue,
                Block::Thinking { text, .. } => AssistantBlock::Text(text),
                Block::Call { id, name, arguments } => {
                    let sent = self.ids.assign(&id);
                    calls.push((id, sent.clone()));
                    let name = self.names.wire(&name, !self.target.anthropic);
                    let arguments = match (object(arguments), self.out.argument_names.get(&name)) {
                        (own, Some(names)) => Cow::Owned(names.rewrite(&own, Direction::ToWire)),
                        (own, None) => own,
                    };
                    AssistantBlock::Call { id: sent, name, arguments }
                }
            };
            characters += match &block {
                AssistantBlock::Text(text) | AssistantBlock::Thinking { text, .. } | AssistantBlock::Redacted(text) => {
                    text.len()
                }
                AssistantBlock::Call { arguments, .. } => arguments.len(),
            };
            answer.blocks.push(block);
        }
        if assistant.total_tokens > 0 {
            self.out.estimated_tokens = assistant.total_tokens;
        } else {
            self.count(characters);
        }
        if answer.is_empty(self.target.anthropic) {
            return;
        }
        self.begun = true;
        self.open.begin(calls);
        self.out.turns.push(Item::Assistant(answer));
    }

    /// Replaces each run of images by one note for a model that takes none, and unusable images by a note each.
    fn parts(&mut self, parts: Vec<Part<'a>>, omitted: &str, drop_blank: bool) -> Vec<Part<'a>> {
        let mut kept: Vec<Part<'a>> = Vec::with_capacity(parts.len());
        let mut after_omitted = false;
        for part in parts {
            let part = match part {
                Part::Media { .. } | Part::Link { .. } if !self.target.images => {
                    if after_omitted {
                        continue;
                    }
                    after_omitted = true;
                    kept.push(Part::Text(omitted.to_owned().into()));
                    continue;
                }
                Part::Media { kind, mime, media_item } => media::usable(kind, &mime, media_item),
                part => part,
            };
            let part = if media::is_video(&part) && !self.target.videos { media::no_video() } else { part };
            after_omitted = matches!(&part, Part::Text(text) if text == omitted);
            match &part {
                Part::Text(text) if drop_blank && text.trim().is_empty() => {}
                _ => kept.push(part),
            }
        }
        kept
    }

    fn note(&mut self, note: String) {
        if !self.out.notes.contains(&note) {
            self.out.notes.push(note);
        }
    }

    fn count(&mut self, characters: usize) {
        // The recorded token count may be any number.
        self.out.estimated_tokens = self.out.estimated_tokens.saturating_add(characters.div_ceil(4) as u64);
    }

    fn finish(mut self) -> Conversation<'a> {
        if !self.begun {
            self.out.turns.push(Item::User(vec![Part::Text(NO_CONTENT.into())]));
        }
        self.out.renamed = self.names.renamed();
        self.out
    }
}

/// Returns how many characters a part counts for in the token estimate. Images count as in Pi
/// (docs/pi-contract.md#token-estimate).
fn weight(part: &Part<'_>) -> usize {
    match part {
        Part::Text(text) => text.len(),
        Part::Media { .. } | Part::MediaRef(_) | Part::Link { .. } => 4800,
    }
}

/// Returns whether this is a signature of the Anthropic dialect; the OpenAI dialect records a field name in its place.
pub fn is_signature(signature: &str) -> bool {
    !signature.trim().is_empty()
        && !matches!(signature, "reasoning_content" | "reasoning" | "reasoning_text" | "reasoning_details")
        && !signature.starts_with('[')
}

/// Sorts the entries by index and removes it, because the service refuses an index in the replay
/// (docs/protocol.md#reasoning-details).
fn without_index(mut details: Vec<Value>) -> Vec<Value> {
    details.retain(Value::is_object);
    details.sort_by_key(|entry| entry.get("index").and_then(Value::as_u64));
    for entry in &mut details {
        if let Value::Object(members) = entry {
            members.shift_remove("index");
        }
    }
    details
}

/// Returns the arguments as the text of a JSON object, also for incomplete or imported calls.
fn object(recorded: Option<Cow<'_, str>>) -> Cow<'_, str> {
    let Some(text) = recorded else { return Cow::Borrowed("{}") };
    if text.starts_with('{') {
        return text;
    }
    if let Ok(inner) = serde_json::from_str::<String>(&text) {
        let arguments = match finalize(&inner) {
            FinalArguments::AsIs => Some(inner),
            FinalArguments::Repaired(repaired) => Some(repaired),
            FinalArguments::Unusable(_) => None,
        };
        // `finalize` reads the shape only. The service also reads the numbers, and refuses those that no `f64` holds.
        if let Some(arguments) = arguments.filter(|text| serde_json::from_str::<Value>(text).is_ok()) {
            return Cow::Owned(arguments);
        }
    }
    Cow::Owned(format!("{{\"input\":{text}}}"))
}
