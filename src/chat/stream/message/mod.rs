//! Builds the content blocks of one answer from deltas.
//!
//! Maps blocks to positions of Pi's content array, filters the service's "(Empty response: …)" text, follows tool arguments, adds
//! up usage, and keeps what the final op reports. It survives a retry: blocks that the user has already seen stay, and positions go on
//! counting.

mod summary;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::empty_response::EmptyResponseFilter;
use super::event::{BlockId, Delta, TokenUsage};
use super::op_queue::{BlockKind, Op, OpWriter};
use super::tool_args::{FinalArguments, ToolArgs, finalize};
use crate::chat::request::tool_call_ids::CallIds;
use crate::chat::request::tool_schema::{ArgumentNames, Direction, KeyRewriter};
use crate::models::Prices;

/// One block while it grows. A block without a position has shown nothing yet.
#[derive(Debug)]
enum GrowingBlock {
    Text {
        index: Option<usize>,
        filter: EmptyResponseFilter,
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
        /// Restores the names of arguments that have another one on the wire.
        names: Option<KeyRewriter>,
    },
    /// Complete, or never shown.
    Closed {
        index: Option<usize>,
    },
}

/// How much of an answer has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentState {
    /// Nothing.
    Nothing,
    /// Reasoning, but neither text nor a call.
    ReasoningOnly,
    /// Text or a call.
    Answer,
}

/// What the request contained that matters for reading its answer.
#[derive(Debug, Default)]
pub struct RequestContext {
    /// Ids of calls that the conversation already holds.
    pub calls: CallIds,
    /// Tool names that had to be changed for the service: name on the wire → Pi's name.
    pub names: HashMap<String, String>,
    /// Tools with arguments that have another name on the wire, by the tool's wire name.
    pub argument_names: HashMap<String, Arc<ArgumentNames>>,
    /// Prices of the model, if they are known better than when the turn began.
    pub prices: Option<Prices>,
}

/// The blocks of one answer, over all attempts at it.
#[derive(Debug)]
pub struct Blocks {
    blocks: Vec<GrowingBlock>,
    next_index: usize,
    /// Thinking blocks before this one have been opened.
    thinking_shown: BlockId,
    usage: TokenUsage,
    prices: Prices,
    id: String,
    model: String,
    /// Of the current attempt.
    state: ContentState,
    /// The user has seen something of the current attempt.
    visible: bool,
    /// An earlier attempt showed reasoning, which is not shown a second time.
    hide_thinking: bool,
    request: RequestContext,
}

impl Blocks {
    /// Makes an empty answer of a model with these prices.
    pub fn new(prices: Prices) -> Self {
        Self {
            blocks: Vec::new(),
            next_index: 0,
            thinking_shown: 0,
            usage: TokenUsage::default(),
            prices,
            id: String::new(),
            model: String::new(),
            state: ContentState::Nothing,
            visible: false,
            hide_thinking: false,
            request: RequestContext::default(),
        }
    }

    /// Sets what the request contained.
    pub fn set_request(&mut self, request: RequestContext) {
        self.prices = request.prices.unwrap_or(self.prices);
        self.request = request;
    }

    /// Returns how much the current attempt has brought.
    pub fn content_state(&self) -> ContentState {
        self.state
    }

    /// Whether the user has seen something of the current attempt; if not, it may be repeated.
    pub fn visible(&self) -> bool {
        self.visible
    }

    /// Prepares for another attempt at the same answer. What the user has seen stays, and positions go on counting.
    pub fn restart(&mut self) {
        self.blocks.clear();
        self.thinking_shown = 0;
        self.usage = TokenUsage::default();
        self.id.clear();
        self.model.clear();
        self.hide_thinking |= self.visible;
        self.state = ContentState::Nothing;
        self.visible = false;
    }

    /// Applies one delta.
    pub fn apply(&mut self, delta: Delta<'_>, ops: &mut OpWriter) {
        match delta {
            Delta::Meta { id, model } => {
                set_if_present(&mut self.id, id);
                set_if_present(&mut self.model, model);
            }
            Delta::TokenUsage(usage) => self.usage.update(usage),
            Delta::Finish(_) => {}
            Delta::TextStart(block) => {
                self.put(block, GrowingBlock::Text { index: None, filter: EmptyResponseFilter::default() })
            }
            Delta::Text(block, text) => self.text(block, text, ops),
            Delta::ThinkingStart { block, signature, redacted } => {
                let mut head = json!({ "signature": signature });
                if redacted {
                    head["redacted"] = true.into();
                }
                self.put(block, GrowingBlock::Thinking { index: None, head: head.to_string() });
            }
            Delta::Thinking(block, text) => self.think(block, text, ops),
            Delta::ThinkingDetails(block, details) => self.amend(block, &json!({ "reasoningDetails": details }), ops),
            Delta::Signature(block, signature) => self.amend(block, &json!({ "thinkingSignature": signature }), ops),
            Delta::ToolStart { block, id, name } => {
                let index = self.claim(block, ops);
                self.state = ContentState::Answer;
                self.visible = true;
                let names = self.request.argument_names.get(name);
                let names = names.map(|names| KeyRewriter::new(Arc::clone(names), Direction::FromWire));
                self.put(block, GrowingBlock::Tool { index, reader: ToolArgs::default(), text: String::new(), names });
                let id = self.request.calls.fresh(&id);
                let name = self.request.names.get(name).map_or(name, String::as_str);
                let head = json!({ "id": id, "name": name }).to_string();
                ops.push(Op::Start { index, kind: BlockKind::Tool, head });
            }
            Delta::ToolArguments(block, more) => {
                if let Some(GrowingBlock::Tool { index, reader, text, names }) = self.blocks.get_mut(block) {
                    let before = text.len();
                    match names {
                        Some(names) => names.push(more, text),
                        None => text.push_str(more),
                    }
                    ops.append_arguments(*index, reader, &text[before..]);
                }
            }
            Delta::End(block) => self.end(block, ops),
        }
    }

    /// Closes every block that the user has seen, in order of position, after the last attempt.
    pub fn close_all(&mut self, ops: &mut OpWriter) {
        for id in 0..self.blocks.len() {
            if !matches!(self.blocks[id], GrowingBlock::Thinking { index: None, .. }) {
                self.end(id, ops);
            }
        }
    }

    fn put(&mut self, id: BlockId, block: GrowingBlock) {
        while self.blocks.len() <= id {
            self.blocks.push(GrowingBlock::Closed { index: None });
        }
        self.blocks[id] = block;
    }

    /// Returns the next position. Empty reasoning blocks before `block` are opened first: they mean "reasoned, but empty", and their
    /// place among the others is part of what is replayed.
    fn claim(&mut self, block: BlockId, ops: &mut OpWriter) -> usize {
        for earlier in self.thinking_shown..block.min(self.blocks.len()) {
            self.show_thinking(earlier, ops);
            self.thinking_shown = earlier;
        }
        let index = self.next_index;
        self.next_index += 1;
        index
    }

    /// Returns the position of a reasoning block, and opens it if necessary; `None` if the block stays hidden.
    fn show_thinking(&mut self, block: BlockId, ops: &mut OpWriter) -> Option<usize> {
        let Some(GrowingBlock::Thinking { index, head }) = self.blocks.get_mut(block) else { return None };
        if index.is_none() && !self.hide_thinking {
            let at = self.next_index;
            self.next_index += 1;
            *index = Some(at);
            ops.push(Op::Start { index: at, kind: BlockKind::Thinking, head: std::mem::take(head) });
        }
        *index
    }

    fn think(&mut self, block: BlockId, text: &str, ops: &mut OpWriter) {
        if !matches!(self.blocks.get(block), Some(GrowingBlock::Thinking { .. })) {
            return;
        }
        if self.state == ContentState::Nothing {
            self.state = ContentState::ReasoningOnly;
        }
        if text.is_empty() {
            return;
        }
        if let Some(index) = self.show_thinking(block, ops) {
            self.visible = true;
            ops.append(index, BlockKind::Thinking, text);
        }
    }

    fn text(&mut self, block: BlockId, text: &str, ops: &mut OpWriter) {
        let Some(GrowingBlock::Text { filter, .. }) = self.blocks.get_mut(block) else { return };
        let [held, passed] = filter.push(text);
        self.show(block, held, ops);
        self.show(block, passed, ops);
    }

    /// Shows text, and opens its block first if necessary.
    fn show(&mut self, block: BlockId, text: &str, ops: &mut OpWriter) {
        let Some(GrowingBlock::Text { index, .. }) = self.blocks.get(block) else { return };
        if text.is_empty() {
            return;
        }
        let at = match *index {
            Some(at) => at,
            None => {
                let at = self.claim(block, ops);
                if let Some(GrowingBlock::Text { index, .. }) = self.blocks.get_mut(block) {
                    *index = Some(at);
                }
                ops.push(Op::Start { index: at, kind: BlockKind::Text, head: String::new() });
                at
            }
        };
        self.state = ContentState::Answer;
        self.visible = true;
        ops.append(at, BlockKind::Text, text);
    }

    fn amend(&mut self, block: BlockId, members: &Value, ops: &mut OpWriter) {
        let shown = self.show_thinking(block, ops);
        let closed = match self.blocks.get(block) {
            Some(GrowingBlock::Closed { index }) => *index,
            _ => None,
        };
        if let Some(index) = shown.or(closed) {
            ops.push(Op::Amend { index, members: members.to_string() });
        }
    }

    fn end(&mut self, id: BlockId, ops: &mut OpWriter) {
        match self.blocks.get_mut(id) {
            Some(GrowingBlock::Text { filter, .. }) => {
                let held = filter.finish();
                self.show(id, held, ops);
            }
            Some(GrowingBlock::Thinking { .. }) => {
                self.show_thinking(id, ops);
            }
            Some(GrowingBlock::Tool { index, reader, text, names: Some(names) }) => {
                let before = text.len();
                names.finish(text);
                ops.append_arguments(*index, reader, &text[before..]);
            }
            _ => {}
        }
        let Some(block) = self.blocks.get_mut(id) else { return };
        let (index, kind, verdict) = match block {
            GrowingBlock::Closed { .. } => return,
            GrowingBlock::Text { index, .. } => (*index, BlockKind::Text, String::new()),
            GrowingBlock::Thinking { index, .. } => (*index, BlockKind::Thinking, String::new()),
            GrowingBlock::Tool { index, text, .. } => (Some(*index), BlockKind::Tool, verdict(text)),
        };
        *block = GrowingBlock::Closed { index };
        if let Some(index) = index {
            ops.push(Op::End { index, kind, verdict });
        }
    }
}

/// Returns what JavaScript has to know about the complete argument text.
fn verdict(text: &str) -> String {
    match finalize(text) {
        FinalArguments::AsIs => String::new(),
        FinalArguments::Repaired(text) => json!({ "text": text }).to_string(),
        FinalArguments::Unusable(error) => json!({ "error": error }).to_string(),
    }
}

fn set_if_present(field: &mut String, value: &str) {
    if !value.is_empty() && field != value {
        value.clone_into(field);
    }
}
