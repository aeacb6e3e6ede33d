//! Deltas → the content blocks of one answer.
//!
//! Turns slots into positions of Pi's content array, filters the service's placeholder, follows tool arguments, adds up usage,
//! and keeps what the final op has to say. It survives a retry: the blocks that a person has already seen stay, positions go
//! on counting.

mod summary;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use serde_json::{Value, json};

use super::empty_response::Placeholder;
use super::event::{BlockId, Delta, Usage};
use super::op_queue::{BlockKind, Frames, Op};
use super::tool_args::{FinalArguments, ToolArgs, finalize};
use crate::chat::request::tool_call_ids::CallIds;
use crate::models::Prices;

/// One block while it grows. A block without a position has shown nothing yet.
#[derive(Debug)]
enum Open {
    Text {
        index: Option<usize>,
        placeholder: Placeholder,
    },
    Thinking {
        index: Option<usize>,
        /// JSON for its start.
        head: String,
    },
    Tool {
        index: usize,
        reader: ToolArgs,
        text: String,
    },
    /// Complete, or never shown.
    Closed {
        index: Option<usize>,
    },
}

/// What an answer amounts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentState {
    /// Nothing at all.
    Nothing,
    /// Reasoning, but neither text nor a call.
    ReasoningOnly,
    /// Text or a call.
    Answer,
}

/// What the request says about tools that an answer to it may call.
#[derive(Debug, Default)]
pub struct RequestContext {
    /// Ids of calls that the conversation already holds.
    pub calls: CallIds,
    /// Tool names that had to be changed for the service: name on the wire → Pi's name.
    pub names: HashMap<String, String>,
}

/// The blocks of one answer, over all attempts at it.
#[derive(Debug)]
pub struct Blocks {
    slots: Vec<Open>,
    next_index: usize,
    usage: Usage,
    prices: Prices,
    id: String,
    model: String,
    /// Of the attempt under way.
    substance: ContentState,
    /// Somebody has seen something of the attempt under way.
    visible: bool,
    /// An attempt before this one ended after reasoning: the reasoning is not shown a second time.
    hide_thinking: bool,
    known: RequestContext,
}

impl Blocks {
    /// An empty answer of a model with these prices.
    pub fn new(prices: Prices) -> Self {
        Self {
            slots: Vec::new(),
            next_index: 0,
            usage: Usage::default(),
            prices,
            id: String::new(),
            model: String::new(),
            substance: ContentState::Nothing,
            visible: false,
            hide_thinking: false,
            known: RequestContext::default(),
        }
    }

    /// Says what the request contained.
    pub fn know(&mut self, known: RequestContext) {
        self.known = known;
    }

    /// What the attempt under way has brought.
    pub fn substance(&self) -> ContentState {
        self.substance
    }

    /// Whether somebody has seen something of the attempt under way; if not, it may be repeated.
    pub fn visible(&self) -> bool {
        self.visible
    }

    /// Prepares for another attempt at the same answer. What has been seen stays, and positions go on counting.
    pub fn restart(&mut self) {
        self.slots.clear();
        self.usage = Usage::default();
        self.id.clear();
        self.model.clear();
        self.hide_thinking |= self.visible;
        self.substance = ContentState::Nothing;
        self.visible = false;
    }

    /// Applies one delta.
    pub fn apply(&mut self, delta: Delta<'_>, frames: &mut Frames) {
        match delta {
            Delta::Meta { id, model } => {
                set(&mut self.id, id);
                set(&mut self.model, model);
            }
            Delta::Usage(usage) => self.usage.update(usage),
            Delta::Finish(_) => {}
            Delta::TextStart(slot) => self.put(slot, Open::Text { index: None, placeholder: Placeholder::default() }),
            Delta::Text(slot, text) => self.text(slot, text, frames),
            Delta::ThinkingStart { slot, signature, redacted } => {
                let mut head = json!({ "signature": signature });
                if redacted {
                    head["redacted"] = true.into();
                }
                self.put(slot, Open::Thinking { index: None, head: head.to_string() });
            }
            Delta::Thinking(slot, text) => self.think(slot, text, frames),
            Delta::ThinkingDetails(slot, details) => self.amend(slot, &json!({ "reasoningDetails": details }), frames),
            Delta::Signature(slot, signature) => self.amend(slot, &json!({ "thinkingSignature": signature }), frames),
            Delta::ToolStart { slot, id, name } => {
                let index = self.claim(slot, frames);
                self.substance = ContentState::Answer;
                self.visible = true;
                self.put(slot, Open::Tool { index, reader: ToolArgs::default(), text: String::new() });
                let id = self.known.calls.fresh(&id);
                let name = self.known.names.get(name).map_or(name, String::as_str);
                let head = json!({ "id": id, "name": name }).to_string();
                frames.push(Op::Start { index, kind: BlockKind::Tool, head });
            }
            Delta::ToolArguments(slot, piece) => {
                if let Some(Open::Tool { index, reader, text }) = self.slots.get_mut(slot) {
                    text.push_str(piece);
                    frames.append_arguments(*index, reader, piece);
                }
            }
            Delta::End(slot) => self.end(slot, frames),
        }
    }

    /// The attempt failed for good: closes every block that somebody has seen, in order of position.
    pub fn close_all(&mut self, frames: &mut Frames) {
        for slot in 0..self.slots.len() {
            if !matches!(self.slots[slot], Open::Thinking { index: None, .. }) {
                self.end(slot, frames);
            }
        }
    }

    fn put(&mut self, slot: BlockId, block: Open) {
        while self.slots.len() <= slot {
            self.slots.push(Open::Closed { index: None });
        }
        self.slots[slot] = block;
    }

    /// The next position. Reasoning blocks before `slot` that have nothing to show come first: an empty one means "reasoned,
    /// but empty", and its place among the others is part of what is replayed.
    fn claim(&mut self, slot: BlockId, frames: &mut Frames) -> usize {
        for earlier in 0..slot.min(self.slots.len()) {
            self.show_thinking(earlier, frames);
        }
        let index = self.next_index;
        self.next_index += 1;
        index
    }

    /// The position of a reasoning block, which is opened if it was not yet; `None` if the block stays hidden.
    fn show_thinking(&mut self, slot: BlockId, frames: &mut Frames) -> Option<usize> {
        let Some(Open::Thinking { index, head }) = self.slots.get_mut(slot) else { return None };
        if index.is_none() && !self.hide_thinking {
            let at = self.next_index;
            self.next_index += 1;
            *index = Some(at);
            frames.push(Op::Start { index: at, kind: BlockKind::Thinking, head: std::mem::take(head) });
        }
        *index
    }

    fn think(&mut self, slot: BlockId, text: &str, frames: &mut Frames) {
        if !matches!(self.slots.get(slot), Some(Open::Thinking { .. })) {
            return;
        }
        if self.substance == ContentState::Nothing {
            self.substance = ContentState::ReasoningOnly;
        }
        if text.is_empty() {
            return;
        }
        if let Some(index) = self.show_thinking(slot, frames) {
            self.visible = true;
            frames.append(index, BlockKind::Thinking, text);
        }
    }

    fn text(&mut self, slot: BlockId, piece: &str, frames: &mut Frames) {
        let Some(Open::Text { placeholder, .. }) = self.slots.get_mut(slot) else { return };
        let [held, passed] = placeholder.push(piece);
        self.show(slot, held, frames);
        self.show(slot, passed, frames);
    }

    /// Shows text, opening its block first if this is the first piece that may be seen.
    fn show(&mut self, slot: BlockId, text: &str, frames: &mut Frames) {
        let Some(Open::Text { index, .. }) = self.slots.get(slot) else { return };
        if text.is_empty() {
            return;
        }
        let at = match *index {
            Some(at) => at,
            None => {
                let at = self.claim(slot, frames);
                if let Some(Open::Text { index, .. }) = self.slots.get_mut(slot) {
                    *index = Some(at);
                }
                frames.push(Op::Start { index: at, kind: BlockKind::Text, head: String::new() });
                at
            }
        };
        self.substance = ContentState::Answer;
        self.visible = true;
        frames.append(at, BlockKind::Text, text);
    }

    fn amend(&mut self, slot: BlockId, members: &Value, frames: &mut Frames) {
        let shown = self.show_thinking(slot, frames);
        let closed = match self.slots.get(slot) {
            Some(Open::Closed { index }) => *index,
            _ => None,
        };
        if let Some(index) = shown.or(closed) {
            frames.push(Op::Amend { index, members: members.to_string() });
        }
    }

    fn end(&mut self, slot: BlockId, frames: &mut Frames) {
        match self.slots.get_mut(slot) {
            Some(Open::Text { placeholder, .. }) => {
                let held = placeholder.finish();
                self.show(slot, held, frames);
            }
            Some(Open::Thinking { .. }) => {
                self.show_thinking(slot, frames);
            }
            _ => {}
        }
        let Some(block) = self.slots.get_mut(slot) else { return };
        let (index, kind, verdict) = match block {
            Open::Closed { .. } => return,
            Open::Text { index, .. } => (*index, BlockKind::Text, String::new()),
            Open::Thinking { index, .. } => (*index, BlockKind::Thinking, String::new()),
            Open::Tool { index, text, .. } => (Some(*index), BlockKind::Tool, verdict(text)),
        };
        *block = Open::Closed { index };
        if let Some(index) = index {
            frames.push(Op::End { index, kind, verdict });
        }
    }
}

/// What JavaScript has to know about the complete argument text.
fn verdict(text: &str) -> String {
    match finalize(text) {
        FinalArguments::AsIs => String::new(),
        FinalArguments::Repaired(text) => json!({ "text": text }).to_string(),
        FinalArguments::Unusable(error) => json!({ "error": error }).to_string(),
    }
}

fn set(field: &mut String, value: &str) {
    if !value.is_empty() && field != value {
        value.clone_into(field);
    }
}
