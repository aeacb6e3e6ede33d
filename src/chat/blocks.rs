//! Deltas → the content blocks of one answer.
//!
//! Turns slots into positions of Pi's content array, filters the service's placeholder, follows tool arguments, adds up usage,
//! and keeps what the final op has to say. It survives a retry: the blocks that a person has already seen stay, positions go
//! on counting.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::call_ids::CallIds;
use super::delta::{Delta, Slot, StopReason, Usage};
use super::frame::{BlockKind, Frames, Op};
use super::placeholder::Placeholder;
use super::tool_args::{Settled, ToolArgs, settle};
use crate::catalog::Prices;

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
pub enum Substance {
    /// Nothing at all.
    Nothing,
    /// Reasoning, but neither text nor a call.
    ReasoningOnly,
    /// Text or a call.
    Answer,
}

/// What the request says about tools that an answer to it may call.
#[derive(Debug, Default)]
pub struct Known {
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
    substance: Substance,
    /// Somebody has seen something of the attempt under way.
    visible: bool,
    /// An attempt before this one ended after reasoning: the reasoning is not shown a second time.
    hide_thinking: bool,
    known: Known,
}

/// Terminal data in Pi's shape.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<StopReason>,
    usage: Value,
    #[serde(skip_serializing_if = "str::is_empty")]
    response_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    response_model: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    raw_stop_reason: &'a str,
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
            substance: Substance::Nothing,
            visible: false,
            hide_thinking: false,
            known: Known::default(),
        }
    }

    /// Says what the request contained.
    pub fn know(&mut self, known: Known) {
        self.known = known;
    }

    /// What the attempt under way has brought.
    pub fn substance(&self) -> Substance {
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
        self.substance = Substance::Nothing;
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
                self.substance = Substance::Answer;
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

    /// JSON of the final op. `reason` is absent for a failure.
    pub fn summary(&self, reason: Option<StopReason>, raw_stop_reason: &str, requested_model: &str) -> Value {
        let response_model = if self.model == requested_model { "" } else { self.model.as_str() };
        let summary =
            Summary { reason, usage: self.usage_for_pi(), response_id: &self.id, response_model, raw_stop_reason };
        // A struct of strings and numbers always serialises.
        serde_json::to_value(summary).unwrap_or_default()
    }

    /// Pi's usage: `input` without cached tokens, `output` with reasoning, total as the sum (pi-extension §3.1).
    fn usage_for_pi(&self) -> Value {
        let count = |value: Option<u64>| value.unwrap_or(0);
        let Usage { input, output, cache_read, cache_write, reasoning } = self.usage;
        let mut usage = json!({
            "input": count(input),
            "output": count(output),
            "cacheRead": count(cache_read),
            "cacheWrite": count(cache_write),
            "totalTokens": count(input) + count(output) + count(cache_read) + count(cache_write),
            "cost": cost(&self.prices, &self.usage),
        });
        if let Some(reasoning) = reasoning {
            usage["reasoning"] = reasoning.into();
        }
        usage
    }

    fn put(&mut self, slot: Slot, block: Open) {
        while self.slots.len() <= slot {
            self.slots.push(Open::Closed { index: None });
        }
        self.slots[slot] = block;
    }

    /// The next position. Reasoning blocks before `slot` that have nothing to show come first: an empty one means "reasoned,
    /// but empty", and its place among the others is part of what is replayed.
    fn claim(&mut self, slot: Slot, frames: &mut Frames) -> usize {
        for earlier in 0..slot.min(self.slots.len()) {
            self.show_thinking(earlier, frames);
        }
        let index = self.next_index;
        self.next_index += 1;
        index
    }

    /// The position of a reasoning block, which is opened if it was not yet; `None` if the block stays hidden.
    fn show_thinking(&mut self, slot: Slot, frames: &mut Frames) -> Option<usize> {
        let Some(Open::Thinking { index, head }) = self.slots.get_mut(slot) else { return None };
        if index.is_none() && !self.hide_thinking {
            let at = self.next_index;
            self.next_index += 1;
            *index = Some(at);
            frames.push(Op::Start { index: at, kind: BlockKind::Thinking, head: std::mem::take(head) });
        }
        *index
    }

    fn think(&mut self, slot: Slot, text: &str, frames: &mut Frames) {
        if !matches!(self.slots.get(slot), Some(Open::Thinking { .. })) {
            return;
        }
        if self.substance == Substance::Nothing {
            self.substance = Substance::ReasoningOnly;
        }
        if text.is_empty() {
            return;
        }
        if let Some(index) = self.show_thinking(slot, frames) {
            self.visible = true;
            frames.append(index, BlockKind::Thinking, text);
        }
    }

    fn text(&mut self, slot: Slot, piece: &str, frames: &mut Frames) {
        let Some(Open::Text { placeholder, .. }) = self.slots.get_mut(slot) else { return };
        let [held, passed] = placeholder.push(piece);
        self.show(slot, held, frames);
        self.show(slot, passed, frames);
    }

    /// Shows text, opening its block first if this is the first piece that may be seen.
    fn show(&mut self, slot: Slot, text: &str, frames: &mut Frames) {
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
        self.substance = Substance::Answer;
        self.visible = true;
        frames.append(at, BlockKind::Text, text);
    }

    fn amend(&mut self, slot: Slot, members: &Value, frames: &mut Frames) {
        let shown = self.show_thinking(slot, frames);
        let closed = match self.slots.get(slot) {
            Some(Open::Closed { index }) => *index,
            _ => None,
        };
        if let Some(index) = shown.or(closed) {
            frames.push(Op::Amend { index, members: members.to_string() });
        }
    }

    fn end(&mut self, slot: Slot, frames: &mut Frames) {
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
    match settle(text) {
        Settled::AsIs => String::new(),
        Settled::Repaired(text) => json!({ "text": text }).to_string(),
        Settled::Unusable(error) => json!({ "error": error }).to_string(),
    }
}

/// USD of an answer, in Pi's shape.
fn cost(prices: &Prices, usage: &Usage) -> Value {
    let part = |tokens: Option<u64>, price: f64| tokens.unwrap_or(0) as f64 * price / 1_000_000.0;
    let input = part(usage.input, prices.input);
    let output = part(usage.output, prices.output);
    let cache_read = part(usage.cache_read, prices.cache_read);
    let cache_write = part(usage.cache_write, prices.cache_write);
    json!({
        "input": input, "output": output, "cacheRead": cache_read, "cacheWrite": cache_write,
        "total": input + output + cache_read + cache_write,
    })
}

fn set(field: &mut String, value: &str) {
    if !value.is_empty() && field != value {
        value.clone_into(field);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::frame::FrameQueue;
    use super::*;

    fn ops(deltas: Vec<Delta<'_>>) -> (Vec<Op>, Blocks) {
        let queue = Arc::new(FrameQueue::default());
        let mut frames = Frames::new(Arc::clone(&queue), Arc::new(|| true));
        let mut blocks = Blocks::new(Prices::default());
        for delta in deltas {
            blocks.apply(delta, &mut frames);
        }
        blocks.close_all(&mut frames);
        (queue.take(), blocks)
    }

    #[test]
    fn a_suppressed_placeholder_leaves_no_gap_in_the_positions() {
        let (ops, blocks) = ops(vec![
            Delta::TextStart(0),
            Delta::Text(0, "(Empty response: {})"),
            Delta::End(0),
            Delta::TextStart(1),
            Delta::Text(1, "hi"),
        ]);
        assert_eq!(ops[0], Op::Start { index: 0, kind: BlockKind::Text, head: String::new() });
        assert_eq!(ops.len(), 3);
        assert_eq!(blocks.substance(), Substance::Answer);
    }

    #[test]
    fn a_second_attempt_does_not_show_its_reasoning_again() {
        let queue = Arc::new(FrameQueue::default());
        let mut frames = Frames::new(Arc::clone(&queue), Arc::new(|| true));
        let mut blocks = Blocks::new(Prices::default());
        let think = || Delta::ThinkingStart { slot: 0, signature: "reasoning_content".into(), redacted: false };
        blocks.apply(think(), &mut frames);
        blocks.apply(Delta::Thinking(0, "Hmm."), &mut frames);
        blocks.apply(Delta::End(0), &mut frames);
        assert_eq!(blocks.substance(), Substance::ReasoningOnly);
        assert!(blocks.visible());
        queue.take();
        blocks.restart();
        blocks.apply(think(), &mut frames);
        blocks.apply(Delta::Thinking(0, "Hmm again."), &mut frames);
        assert_eq!((blocks.substance(), blocks.visible()), (Substance::ReasoningOnly, false));
        blocks.apply(Delta::TextStart(1), &mut frames);
        blocks.apply(Delta::Text(1, "4"), &mut frames);
        blocks.close_all(&mut frames);
        let ops = queue.take();
        assert_eq!(ops[0], Op::Start { index: 1, kind: BlockKind::Text, head: String::new() });
        assert_eq!(ops.len(), 3);
    }

    /// Protocol reference §13, case 38: nothing that a person could see, so a failure right after it may still be retried.
    #[test]
    fn empty_reasoning_is_kept_before_the_text_but_is_not_visible() {
        let empty = || Delta::ThinkingStart { slot: 0, signature: "reasoning_content".into(), redacted: false };
        let (seen, blocks) = ops(vec![empty(), Delta::Thinking(0, "")]);
        assert_eq!((seen.len(), blocks.visible()), (0, false));
        let (seen, _) = ops(vec![empty(), Delta::Thinking(0, ""), Delta::TextStart(1), Delta::Text(1, "ok")]);
        assert!(matches!(seen[0], Op::Start { index: 0, kind: BlockKind::Thinking, .. }));
        assert!(matches!(seen[1], Op::Start { index: 1, kind: BlockKind::Text, .. }));
    }

    #[test]
    fn calls_are_announced_under_an_id_that_is_new_and_a_name_that_pi_knows() {
        let queue = Arc::new(FrameQueue::default());
        let mut frames = Frames::new(Arc::clone(&queue), Arc::new(|| true));
        let mut blocks = Blocks::new(Prices::default());
        let mut known = Known::default();
        known.calls.reserve("bash:0");
        known.names.insert("bash".to_owned(), "my bash".to_owned());
        blocks.know(known);
        for slot in 0..2 {
            blocks.apply(Delta::ToolStart { slot, id: "bash:0".into(), name: "bash" }, &mut frames);
        }
        let heads: Vec<String> = queue
            .take()
            .into_iter()
            .filter_map(|op| if let Op::Start { head, .. } = op { Some(head) } else { None })
            .collect();
        assert!(heads[0].contains("bash:0__2") && heads[1].contains("bash:0__3"), "{heads:?}");
        assert!(heads[0].contains("my bash"), "{heads:?}");
    }

    #[test]
    fn cost_is_tokens_times_price() {
        let prices = Prices { input: 1.0, output: 10.0, cache_read: 0.1, cache_write: 0.0 };
        let usage =
            Usage { input: Some(1_000_000), output: Some(100_000), cache_read: Some(2_000_000), ..Usage::default() };
        assert!((cost(&prices, &usage)["total"].as_f64().unwrap() - 2.2).abs() < 1e-9);
    }

    #[test]
    fn usable_arguments_are_told_from_unusable_ones() {
        let call = |slot, id: &str| Delta::ToolStart { slot, id: id.to_owned(), name: "t" };
        let (ops, _) = ops(vec![
            call(0, "a"),
            Delta::ToolArguments(0, "{\"x\":1}"),
            call(1, "b"),
            Delta::ToolArguments(1, "{\"x\":"),
        ]);
        let verdicts: Vec<&str> = ops
            .iter()
            .filter_map(|op| if let Op::End { verdict, .. } = op { Some(verdict.as_str()) } else { None })
            .collect();
        assert_eq!(verdicts[0], "");
        assert!(verdicts[1].contains("error"));
    }
}
