//! Deltas → the content blocks of one answer.
//!
//! Turns slots into positions of Pi's content array, filters the service's placeholder, follows tool arguments, adds up usage,
//! and keeps what the final op has to say. It survives a retry: the blocks that a person has already seen stay, positions go
//! on counting.

use serde::Serialize;
use serde_json::{Value, json};

use super::delta::{Delta, Slot, StopReason, Usage};
use super::frame::{BlockKind, Frames, Op};
use super::placeholder::Placeholder;
use super::tool_args::{Settled, ToolArgs, settle};
use crate::catalog::Prices;

/// One block while it grows.
#[derive(Debug)]
enum Open {
    Text {
        index: Option<usize>,
        placeholder: Placeholder,
    },
    Thinking {
        index: usize,
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

/// The blocks of one answer.
#[derive(Debug)]
pub struct Blocks {
    slots: Vec<Open>,
    next_index: usize,
    usage: Usage,
    prices: Prices,
    id: String,
    model: String,
    substance: Substance,
    /// A retry after an answer of reasoning only: its reasoning is not shown a second time.
    hide_thinking: bool,
    has_calls: bool,
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
            hide_thinking: false,
            has_calls: false,
        }
    }

    /// What has been shown so far.
    pub fn substance(&self) -> Substance {
        self.substance
    }

    /// Whether the answer asks for tools.
    pub fn has_calls(&self) -> bool {
        self.has_calls
    }

    /// Prepares for another attempt at the same answer.
    pub fn restart(&mut self) {
        self.slots.clear();
        self.usage = Usage::default();
        self.id.clear();
        self.model.clear();
        self.hide_thinking = self.substance == Substance::ReasoningOnly;
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
                self.start_thinking(slot, &signature, redacted, frames)
            }
            Delta::Thinking(slot, text) => {
                if let Some(Open::Thinking { index }) = self.slots.get(slot)
                    && !text.is_empty()
                {
                    frames.push(Op::Delta { index: *index, kind: BlockKind::Thinking, text: text.to_owned() });
                }
            }
            Delta::ThinkingDetails(slot, details) => self.amend(slot, &json!({ "reasoningDetails": details }), frames),
            Delta::Signature(slot, signature) => self.amend(slot, &json!({ "thinkingSignature": signature }), frames),
            Delta::ToolStart { slot, id, name } => {
                let index = self.claim();
                self.has_calls = true;
                self.substance = Substance::Answer;
                self.put(slot, Open::Tool { index, reader: ToolArgs::default(), text: String::new() });
                let head = json!({ "id": id, "name": name }).to_string();
                frames.push(Op::Start { index, kind: BlockKind::Tool, head });
            }
            Delta::ToolArguments(slot, piece) => {
                if let Some(Open::Tool { index, reader, text }) = self.slots.get_mut(slot) {
                    text.push_str(piece);
                    reader.append(piece);
                    frames.push(Op::ToolDelta {
                        index: *index,
                        text: piece.to_owned(),
                        changes: reader.take_changes(),
                    });
                }
            }
            Delta::End(slot) => self.end(slot, frames),
        }
    }

    /// Closes every block that is still open, in order of position.
    pub fn close_all(&mut self, frames: &mut Frames) {
        for slot in 0..self.slots.len() {
            self.end(slot, frames);
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

    fn claim(&mut self) -> usize {
        let index = self.next_index;
        self.next_index += 1;
        index
    }

    fn text(&mut self, slot: Slot, text: &str, frames: &mut Frames) {
        let Some(Open::Text { index, placeholder }) = self.slots.get_mut(slot) else { return };
        let (next_index, substance) = (&mut self.next_index, &mut self.substance);
        placeholder.push(text, |text| show(text, index, next_index, substance, frames));
    }

    fn start_thinking(&mut self, slot: Slot, signature: &str, redacted: bool, frames: &mut Frames) {
        if self.hide_thinking {
            return self.put(slot, Open::Closed { index: None });
        }
        let index = self.claim();
        if self.substance == Substance::Nothing {
            self.substance = Substance::ReasoningOnly;
        }
        self.put(slot, Open::Thinking { index });
        let mut head = json!({ "signature": signature });
        if redacted {
            head["redacted"] = true.into();
        }
        frames.push(Op::Start { index, kind: BlockKind::Thinking, head: head.to_string() });
    }

    fn amend(&self, slot: Slot, members: &Value, frames: &mut Frames) {
        if let Some(Open::Thinking { index } | Open::Closed { index: Some(index) }) = self.slots.get(slot) {
            frames.push(Op::Amend { index: *index, members: members.to_string() });
        }
    }

    fn end(&mut self, slot: Slot, frames: &mut Frames) {
        let Some(block) = self.slots.get_mut(slot) else { return };
        let closed = match block {
            Open::Closed { .. } => return,
            Open::Text { index, placeholder } => {
                let (next_index, substance) = (&mut self.next_index, &mut self.substance);
                placeholder.finish(|text| show(text, index, next_index, substance, frames));
                if let Some(index) = *index {
                    frames.push(Op::End { index, kind: BlockKind::Text, verdict: String::new() });
                }
                *index
            }
            Open::Thinking { index } => {
                frames.push(Op::End { index: *index, kind: BlockKind::Thinking, verdict: String::new() });
                Some(*index)
            }
            Open::Tool { index, text, .. } => {
                let verdict = match settle(text) {
                    Settled::AsIs => String::new(),
                    Settled::Repaired(text) => json!({ "text": text }).to_string(),
                    Settled::Unusable(error) => json!({ "error": error }).to_string(),
                };
                frames.push(Op::End { index: *index, kind: BlockKind::Tool, verdict });
                Some(*index)
            }
        };
        *block = Open::Closed { index: closed };
    }
}

/// Emits text, opening its block first if this is the first piece that may be seen.
fn show(text: &str, index: &mut Option<usize>, next_index: &mut usize, substance: &mut Substance, frames: &mut Frames) {
    if text.is_empty() {
        return;
    }
    let index = *index.get_or_insert_with(|| {
        let index = *next_index;
        *next_index += 1;
        frames.push(Op::Start { index, kind: BlockKind::Text, head: String::new() });
        index
    });
    *substance = Substance::Answer;
    frames.push(Op::Delta { index, kind: BlockKind::Text, text: text.to_owned() });
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
        blocks.close_all(&mut frames);
        assert_eq!(blocks.substance(), Substance::ReasoningOnly);
        queue.take();
        blocks.restart();
        blocks.apply(think(), &mut frames);
        blocks.apply(Delta::Thinking(0, "Hmm again."), &mut frames);
        blocks.apply(Delta::TextStart(1), &mut frames);
        blocks.apply(Delta::Text(1, "4"), &mut frames);
        blocks.close_all(&mut frames);
        let ops = queue.take();
        assert_eq!(ops[0], Op::Start { index: 1, kind: BlockKind::Text, head: String::new() });
        assert_eq!(ops.len(), 3);
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
