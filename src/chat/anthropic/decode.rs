//! Decodes events of the Anthropic dialect (docs/protocol.md#messages-events).
//!
//! Blocks are routed by `index` and may be open side by side. Kimi leaves out much of what Anthropic always sends: initial members,
//! signatures, `content_block_stop`, `stop_reason`.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::chat::request::tool_call_ids::new_call_id;
use crate::chat::stream::decoder::{DialectDecoder, event_error, nameless_call};
use crate::chat::stream::event::{BlockId, Delta, Emit};
use crate::chat::stream::event_template::{Reading, TextRole};
use crate::chat::stream::stop_reason::{StopReason, common_stop_reason};
use crate::chat::stream::usage::{Convention, usage};
use crate::error::{Error, ErrorKind, Result};
use crate::json::lenient::{Count, JsonText, List, Object, PartsText, Text};

#[derive(Deserialize)]
struct MessagesEvent<'a> {
    #[serde(rename = "type", default, borrow)]
    kind: Text<'a>,
    #[serde(default)]
    index: Count,
    #[serde(default, borrow)]
    message: Object<MessageHead<'a>>,
    #[serde(default, borrow)]
    content_block: Object<BlockHead<'a>>,
    #[serde(default, borrow)]
    delta: Object<BlockDelta<'a>>,
    #[serde(default)]
    usage: Option<Value>,
    #[serde(default)]
    error: Option<Value>,
}

impl MessagesEvent<'_> {
    fn kind<'k>(&'k self, name: &'k str) -> &'k str {
        if self.kind.as_str().is_empty() { name } else { self.kind.as_str() }
    }

    /// Returns the text of an event that says nothing else, after its first text.
    fn one_text(&self, name: &str) -> Option<(TextRole, &str)> {
        let delta = self.delta.0.as_ref().filter(|_| self.kind(name) == "content_block_delta")?;
        let index = self.index.0;
        // In the order in which `AnthropicDecoder::delta` looks for them.
        match (&delta.partial_json.0, &delta.text.0, &delta.thinking.0) {
            (Some(json), ..) => Some((TextRole::Arguments(index), json)),
            (_, Some(text), _) => Some((TextRole::Text(index), text)),
            (.., Some(text)) => Some((TextRole::Thinking(index, "thinking"), text)),
            _ => None,
        }
    }
}

#[derive(Deserialize)]
struct MessageHead<'a> {
    #[serde(default, borrow)]
    id: Text<'a>,
    #[serde(default, borrow)]
    model: Text<'a>,
    #[serde(default)]
    usage: Option<Value>,
    /// Empty unless the answer comes whole.
    #[serde(default, borrow)]
    content: List<BlockHead<'a>>,
    #[serde(default, borrow)]
    stop_reason: Text<'a>,
}

#[derive(Deserialize)]
struct BlockHead<'a> {
    #[serde(rename = "type", default, borrow)]
    kind: Text<'a>,
    #[serde(default, borrow)]
    text: PartsText<'a>,
    #[serde(default, borrow)]
    thinking: PartsText<'a>,
    #[serde(default, borrow)]
    signature: Text<'a>,
    #[serde(default, borrow)]
    data: Text<'a>,
    #[serde(default, borrow)]
    id: Text<'a>,
    #[serde(default, borrow)]
    name: Text<'a>,
    #[serde(default, borrow)]
    input: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct BlockDelta<'a> {
    #[serde(default, borrow)]
    text: PartsText<'a>,
    #[serde(default, borrow)]
    thinking: PartsText<'a>,
    #[serde(default, borrow)]
    signature: Text<'a>,
    #[serde(default, borrow)]
    partial_json: JsonText<'a>,
    #[serde(default, borrow)]
    stop_reason: Text<'a>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum OpenKind {
    #[default]
    Text,
    Thinking,
    Tool,
    /// A call without a name, kept until the answer is complete.
    NamelessTool,
    /// A kind that we do not know; its deltas are ignored.
    Unknown,
}

/// A block between its start and its end.
#[derive(Debug, Default)]
struct OpenBlock {
    index: Option<u64>,
    kind: OpenKind,
    block: BlockId,
    /// Signature so far, and whether a part of it came after the start.
    signature: String,
    late_signature: bool,
    /// Id of a call without a name.
    id: String,
    /// Arguments that came whole with the start; used if no delta follows.
    input: String,
}

/// Decoder of one stream.
#[derive(Debug, Default)]
pub struct AnthropicDecoder {
    next_block: BlockId,
    open: Vec<OpenBlock>,
    nameless: Vec<OpenBlock>,
    has_calls: bool,
    stop_reason: String,
    stopped: bool,
}

impl DialectDecoder for AnthropicDecoder {
    fn event(&mut self, name: &str, json: &str, emit: &mut Emit<'_>) -> serde_json::Result<Result<Reading>> {
        let Object::<MessagesEvent<'_>>(Some(event)) = serde_json::from_str(json)? else {
            return Ok(Ok(Reading::Other));
        };
        if let Some(error) = event_error(event.kind.as_str(), event.error.as_ref(), json)? {
            return Ok(Err(error));
        }
        if event.kind.as_str() == "message" {
            self.message(&serde_json::from_str(json)?, emit);
            self.stopped = true;
            return Ok(Ok(Reading::Over));
        }
        if self.read(&event, name, emit) {
            return Ok(Ok(Reading::Over));
        }
        Ok(Ok(event.one_text(name).map_or(Reading::Other, |(role, text)| Reading::one_text(json, role, text))))
    }

    fn text(&mut self, role: TextRole, text: &str, emit: &mut Emit<'_>) {
        let text = Some(Cow::Borrowed(text));
        let (index, delta) = match role {
            TextRole::Text(index) => (index, BlockDelta { text: PartsText(text), ..BlockDelta::default() }),
            TextRole::Thinking(index, _) => (index, BlockDelta { thinking: PartsText(text), ..BlockDelta::default() }),
            TextRole::Arguments(index) => (index, BlockDelta { partial_json: JsonText(text), ..BlockDelta::default() }),
        };
        self.delta(index, &delta, emit);
    }

    fn carries_answer(&self, event_name: &str) -> bool {
        event_name.is_empty() || event_name.starts_with("message") || event_name.starts_with("content_block")
    }

    fn finished(&self) -> bool {
        self.stopped || !self.stop_reason.is_empty()
    }

    fn finish(&mut self, visible: bool, emit: &mut Emit<'_>) -> Result<(StopReason, String)> {
        if !self.finished() {
            return Err(Error::new(ErrorKind::Truncated, "Stream ended before message_stop"));
        }
        for open in std::mem::take(&mut self.open) {
            self.close(open, emit);
        }
        for OpenBlock { block, id, input, .. } in std::mem::take(&mut self.nameless) {
            nameless_call(visible, block, &id, &input, emit)?;
            emit(Delta::End(block));
            self.has_calls = true;
        }
        let done = if self.has_calls { StopReason::ToolUse } else { StopReason::Stop };
        let reason = common_stop_reason("stop_reason", &self.stop_reason).unwrap_or(Ok(done))?;
        Ok((reason, std::mem::take(&mut self.stop_reason)))
    }
}

impl AnthropicDecoder {
    /// Handles one event; true if it ends the stream.
    fn read(&mut self, event: &MessagesEvent<'_>, name: &str, emit: &mut Emit<'_>) -> bool {
        match event.kind(name) {
            "message_start" => {
                if let Some(message) = &event.message.0 {
                    self.message(message, emit);
                }
            }
            "content_block_start" => {
                if let Some(block) = &event.content_block.0 {
                    self.start(event.index.0, block, emit);
                }
            }
            "content_block_delta" => {
                if let Some(delta) = &event.delta.0 {
                    self.delta(event.index.0, delta, emit);
                }
            }
            "content_block_stop" => {
                if let Some(at) = self.find(event.index.0) {
                    let open = self.open.remove(at);
                    self.close(open, emit);
                }
            }
            "message_delta" => {
                emit_usage(event.usage.as_ref(), emit);
                self.stop(event.delta.0.as_ref().map(|delta| delta.stop_reason.as_str()).unwrap_or_default(), emit);
            }
            "message_stop" => {
                self.stopped = true;
                return true;
            }
            // `ping`, and events that are not known yet.
            _ => {}
        }
        false
    }

    /// Handles a message: the head of an answer, or the whole answer, which some gateways send in place of events.
    fn message(&mut self, message: &MessageHead<'_>, emit: &mut Emit<'_>) {
        emit(Delta::Meta { id: message.id.as_str(), model: message.model.as_str() });
        emit_usage(message.usage.as_ref(), emit);
        if self.next_block == 0 {
            for head in &message.content.0 {
                self.start(None, head, emit);
                if let Some(open) = self.open.pop() {
                    self.close(open, emit);
                }
            }
        }
        self.stop(message.stop_reason.as_str(), emit);
    }

    fn stop(&mut self, reason: &str, emit: &mut Emit<'_>) {
        if !reason.is_empty() {
            reason.clone_into(&mut self.stop_reason);
            emit(Delta::Finish(reason));
        }
    }

    fn start(&mut self, index: Option<u64>, head: &BlockHead<'_>, emit: &mut Emit<'_>) {
        match head.kind.as_str() {
            "text" => {
                let block = self.open_text(index, emit);
                text(block, head.text.as_str(), emit);
            }
            "thinking" => {
                let block = self.open_thinking(index, head.signature.as_str(), false, emit);
                emit(Delta::Thinking(block, head.thinking.as_str()));
            }
            "redacted_thinking" => {
                let block = self.open_thinking(index, head.data.as_str(), true, emit);
                emit(Delta::Thinking(block, ""));
            }
            "tool_use" => {
                let (id, name) = (head.id.as_str(), head.name.as_str());
                let block = self.claim(index, if name.is_empty() { OpenKind::NamelessTool } else { OpenKind::Tool });
                if !name.is_empty() {
                    self.has_calls = true;
                    let id = if id.is_empty() { new_call_id() } else { id.to_owned() };
                    emit(Delta::ToolStart { block, id, name });
                }
                if let Some(open) = self.open.last_mut() {
                    id.clone_into(&mut open.id);
                    open.input = head.input.map(whole_input).unwrap_or_default();
                }
            }
            // The deltas of a block without a kind show what it is.
            "" => {}
            _ => {
                self.claim(index, OpenKind::Unknown);
            }
        }
    }

    /// Handles a delta of a block, and starts the block if that was left out.
    fn delta(&mut self, index: Option<u64>, delta: &BlockDelta<'_>, emit: &mut Emit<'_>) {
        let known = self.find(index);
        if known.is_some_and(|at| self.open[at].kind == OpenKind::Unknown) {
            return;
        }
        if let Some(json) = &delta.partial_json.0 {
            match known.map(|at| &mut self.open[at]) {
                Some(open) if open.kind == OpenKind::Tool && !json.is_empty() => {
                    open.input.clear();
                    emit(Delta::ToolArguments(open.block, json));
                }
                Some(open) if open.kind == OpenKind::NamelessTool => open.input.push_str(json),
                _ => {}
            }
            return;
        }
        if let Some(more) = &delta.text.0 {
            let block = match self.block_of_kind(known, OpenKind::Text) {
                Some(block) => block,
                None if more.is_empty() => return,
                None => self.open_text(index, emit),
            };
            return text(block, more, emit);
        }
        if let Some(text) = &delta.thinking.0 {
            let block = match self.block_of_kind(known, OpenKind::Thinking) {
                Some(block) => block,
                None if text.is_empty() => return,
                None => self.open_thinking(index, "", false, emit),
            };
            if !text.is_empty() {
                emit(Delta::Thinking(block, text));
            }
            return;
        }
        let signature = delta.signature.as_str();
        if let Some(open) = known.map(|at| &mut self.open[at]).filter(|open| open.kind == OpenKind::Thinking)
            && !signature.is_empty()
        {
            open.signature.push_str(signature);
            open.late_signature = true;
        }
    }

    fn open_text(&mut self, index: Option<u64>, emit: &mut Emit<'_>) -> BlockId {
        let block = self.claim(index, OpenKind::Text);
        emit(Delta::TextStart(block));
        block
    }

    fn open_thinking(&mut self, index: Option<u64>, signature: &str, redacted: bool, emit: &mut Emit<'_>) -> BlockId {
        let block = self.claim(index, OpenKind::Thinking);
        if let Some(open) = self.open.last_mut() {
            signature.clone_into(&mut open.signature);
        }
        emit(Delta::ThinkingStart { block, signature: signature.to_owned(), redacted });
        block
    }

    fn claim(&mut self, index: Option<u64>, kind: OpenKind) -> BlockId {
        let block = self.next_block;
        self.next_block += 1;
        self.open.push(OpenBlock { index, kind, block, ..OpenBlock::default() });
        block
    }

    /// Returns the open block with this index; without an index, the block that was opened last.
    fn find(&self, index: Option<u64>) -> Option<usize> {
        match index {
            Some(_) => self.open.iter().rposition(|block| block.index == index),
            None => self.open.len().checked_sub(1),
        }
    }

    fn close(&mut self, open: OpenBlock, emit: &mut Emit<'_>) {
        match open.kind {
            OpenKind::NamelessTool => return self.nameless.push(open),
            OpenKind::Thinking if open.late_signature => emit(Delta::Signature(open.block, &open.signature)),
            OpenKind::Tool if !open.input.is_empty() => emit(Delta::ToolArguments(open.block, &open.input)),
            _ => {}
        }
        emit(Delta::End(open.block));
    }

    fn block_of_kind(&self, at: Option<usize>, kind: OpenKind) -> Option<BlockId> {
        at.map(|at| &self.open[at]).filter(|open| open.kind == kind).map(|open| open.block)
    }
}

fn text(block: BlockId, text: &str, emit: &mut Emit<'_>) {
    if !text.is_empty() {
        emit(Delta::Text(block, text));
    }
}

/// Reads arguments that came with the start of their call: JSON, or a string that holds it. `{}` only announces deltas.
fn whole_input(input: &RawValue) -> String {
    let text = serde_json::from_str::<String>(input.get());
    let text = text.as_deref().unwrap_or(input.get());
    if matches!(text, "{}" | "null") { String::new() } else { text.to_owned() }
}

fn emit_usage(value: Option<&Value>, emit: &mut Emit<'_>) {
    if let Some(value) = value {
        emit(Delta::TokenUsage(usage(value, Convention::UncachedInput)));
    }
}
