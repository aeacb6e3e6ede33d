//! Events of the Anthropic dialect → deltas (docs/protocol.md#messages-events).
//!
//! Blocks are routed by `index` and may be open side by side. Kimi's compatible endpoint leaves out much of what Anthropic's own
//! always sends: initial fields, signatures, `content_block_stop`, `stop_reason` (docs/protocol.md#messages-events).

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::chat::stream::decoder::{Emit, made_id};
use crate::chat::stream::event::{BlockId, Delta, StopReason};
use crate::chat::stream::usage::{Convention, usage};
use crate::error::{Error, ErrorKind, Result, from_stream, reported};
use crate::json::lenient::{Count, Text};
use crate::json::shape::{JsonText, Object};

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type", default, borrow)]
    kind: Text<'a>,
    #[serde(default)]
    index: Count,
    #[serde(default, borrow)]
    message: Object<Message<'a>>,
    #[serde(default, borrow)]
    content_block: Object<Block<'a>>,
    #[serde(default, borrow)]
    delta: Object<RawDelta<'a>>,
    #[serde(default)]
    usage: Option<Value>,
    #[serde(default)]
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(default, borrow)]
    id: Text<'a>,
    #[serde(default, borrow)]
    model: Text<'a>,
    #[serde(default)]
    usage: Option<Value>,
}

#[derive(Deserialize)]
struct Block<'a> {
    #[serde(rename = "type", default, borrow)]
    kind: Text<'a>,
    #[serde(default, borrow)]
    text: Text<'a>,
    #[serde(default, borrow)]
    thinking: Text<'a>,
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

#[derive(Deserialize)]
struct RawDelta<'a> {
    #[serde(default, borrow)]
    text: Text<'a>,
    #[serde(default, borrow)]
    thinking: Text<'a>,
    #[serde(default, borrow)]
    signature: Text<'a>,
    #[serde(default, borrow)]
    partial_json: JsonText<'a>,
    #[serde(default, borrow)]
    stop_reason: Text<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RawBlockKind {
    Text,
    Thinking,
    Tool,
    /// A block of a kind that we do not know: its pieces are nobody's.
    Foreign,
}

/// A block between its start and its end.
#[derive(Debug)]
struct Open {
    index: Option<u64>,
    kind: RawBlockKind,
    slot: BlockId,
    /// Signature so far.
    signature: String,
    /// Arguments that came whole with the start; used if no piece follows.
    input: String,
}

/// Decoder of one stream.
#[derive(Debug, Default)]
pub struct AnthropicDecoder {
    next_slot: BlockId,
    open: Vec<Open>,
    has_calls: bool,
    stop_reason: String,
    stopped: bool,
}

impl AnthropicDecoder {
    /// Decodes one event: its name and its JSON. The inner value is true when the stream says that it is over.
    pub fn event(&mut self, name: &str, json: &str, emit: &mut Emit<'_>) -> serde_json::Result<Result<bool>> {
        let Object::<Event<'_>>(Some(event)) = serde_json::from_str(json)? else { return Ok(Ok(false)) };
        if event.kind.as_str() == "error" && reported(event.error.as_ref()).is_none() {
            return Ok(Err(from_stream(&serde_json::from_str(json)?)));
        }
        Ok(self.read(&event, name, emit))
    }

    /// Whether the service has said why it stopped; what follows is bookkeeping.
    pub fn finished(&self) -> bool {
        self.stopped || !self.stop_reason.is_empty()
    }

    /// The stream is over: closes what is open and judges how it ended. Returns our reason and the service's own.
    pub fn finish(&mut self, emit: &mut Emit<'_>) -> Result<(StopReason, String)> {
        if !self.finished() {
            return Err(Error::new(ErrorKind::Truncated, "Stream ended before message_stop"));
        }
        for block in std::mem::take(&mut self.open) {
            close(block, emit);
        }
        let done = if self.has_calls { StopReason::ToolUse } else { StopReason::Stop };
        let reason = match self.stop_reason.as_str() {
            "max_tokens" | "model_context_window_exceeded" => StopReason::Length,
            reason @ ("refusal" | "sensitive") => {
                return Err(Error::new(
                    ErrorKind::Filtered,
                    format!("Provider stop_reason: {reason} (the service withheld the rest of the answer)"),
                ));
            }
            _ => done,
        };
        Ok((reason, std::mem::take(&mut self.stop_reason)))
    }

    fn read(&mut self, event: &Event<'_>, name: &str, emit: &mut Emit<'_>) -> Result<bool> {
        let kind = if event.kind.as_str().is_empty() { name } else { event.kind.as_str() };
        if let Some(error) = reported(event.error.as_ref()) {
            return Err(from_stream(error));
        }
        match kind {
            "message_start" => {
                if let Some(message) = &event.message.0 {
                    emit(Delta::Meta { id: message.id.as_str(), model: message.model.as_str() });
                    report(message.usage.as_ref(), emit);
                }
            }
            "content_block_start" => {
                if let Some(block) = &event.content_block.0 {
                    self.start(event.index.0, block, emit);
                }
            }
            "content_block_delta" => {
                if let Some(piece) = &event.delta.0 {
                    self.piece(event.index.0, piece, emit);
                }
            }
            "content_block_stop" => {
                if let Some(at) = self.find(event.index.0) {
                    close(self.open.remove(at), emit);
                }
            }
            "message_delta" => {
                report(event.usage.as_ref(), emit);
                let reason = event.delta.0.as_ref().map(|delta| delta.stop_reason.as_str()).unwrap_or_default();
                if !reason.is_empty() {
                    reason.clone_into(&mut self.stop_reason);
                    emit(Delta::Finish(reason));
                }
            }
            "message_stop" => {
                self.stopped = true;
                return Ok(true);
            }
            // `ping`, and whatever the service may add one day.
            _ => {}
        }
        Ok(false)
    }

    fn start(&mut self, index: Option<u64>, block: &Block<'_>, emit: &mut Emit<'_>) {
        match block.kind.as_str() {
            "text" => {
                let slot = self.open(index, RawBlockKind::Text, emit);
                text(slot, block.text.as_str(), emit);
            }
            "thinking" => {
                let slot = self.open_thinking(index, block.signature.as_str(), false, emit);
                emit(Delta::Thinking(slot, block.thinking.as_str()));
            }
            "redacted_thinking" => {
                let slot = self.open_thinking(index, block.data.as_str(), true, emit);
                emit(Delta::Thinking(slot, ""));
            }
            // A call without a name cannot be run, and none ever follows.
            "tool_use" if !block.name.as_str().is_empty() => {
                self.has_calls = true;
                let slot = self.claim(index, RawBlockKind::Tool);
                let id = block.id.as_str();
                let id = if id.is_empty() { made_id() } else { id.to_owned() };
                emit(Delta::ToolStart { slot, id, name: block.name.as_str() });
                if let (Some(input), Some(open)) = (block.input, self.open.last_mut()) {
                    open.input = whole_input(input);
                }
            }
            // Kimi leaves out much, so pieces may still say what a block without a kind is.
            "" => {}
            _ => {
                self.claim(index, RawBlockKind::Foreign);
            }
        }
    }

    /// A piece goes to its block. One whose block was never started starts it.
    fn piece(&mut self, index: Option<u64>, piece: &RawDelta<'_>, emit: &mut Emit<'_>) {
        let known = self.find(index);
        if known.is_some_and(|at| self.open[at].kind == RawBlockKind::Foreign) {
            return;
        }
        if let Some(json) = &piece.partial_json.0 {
            if let Some(block) = known.map(|at| &mut self.open[at]).filter(|block| block.kind == RawBlockKind::Tool)
                && !json.is_empty()
            {
                block.input.clear();
                emit(Delta::ToolArguments(block.slot, json));
            }
            return;
        }
        if let Some(piece) = &piece.text.0 {
            let slot = match self.slot(known, RawBlockKind::Text) {
                Some(slot) => slot,
                None if piece.is_empty() => return,
                None => self.open(index, RawBlockKind::Text, emit),
            };
            return text(slot, piece, emit);
        }
        if let Some(text) = &piece.thinking.0 {
            let slot = match self.slot(known, RawBlockKind::Thinking) {
                Some(slot) => slot,
                None if text.is_empty() => return,
                None => self.open_thinking(index, "", false, emit),
            };
            if !text.is_empty() {
                emit(Delta::Thinking(slot, text));
            }
            return;
        }
        let signature = piece.signature.as_str();
        if let Some(block) = known.map(|at| &mut self.open[at]).filter(|block| block.kind == RawBlockKind::Thinking)
            && !signature.is_empty()
        {
            block.signature.push_str(signature);
            emit(Delta::Signature(block.slot, &block.signature));
        }
    }

    fn open(&mut self, index: Option<u64>, kind: RawBlockKind, emit: &mut Emit<'_>) -> BlockId {
        let slot = self.claim(index, kind);
        emit(Delta::TextStart(slot));
        slot
    }

    fn open_thinking(&mut self, index: Option<u64>, signature: &str, redacted: bool, emit: &mut Emit<'_>) -> BlockId {
        let slot = self.claim(index, RawBlockKind::Thinking);
        if let Some(block) = self.open.last_mut() {
            signature.clone_into(&mut block.signature);
        }
        emit(Delta::ThinkingStart { slot, signature: signature.to_owned(), redacted });
        slot
    }

    fn claim(&mut self, index: Option<u64>, kind: RawBlockKind) -> BlockId {
        let slot = self.next_slot;
        self.next_slot += 1;
        self.open.push(Open { index, kind, slot, signature: String::new(), input: String::new() });
        slot
    }

    /// The open block with this index; without one, the block that was opened last.
    fn find(&self, index: Option<u64>) -> Option<usize> {
        match index {
            Some(_) => self.open.iter().rposition(|block| block.index == index),
            None => self.open.len().checked_sub(1),
        }
    }

    fn slot(&self, at: Option<usize>, kind: RawBlockKind) -> Option<BlockId> {
        at.map(|at| &self.open[at]).filter(|block| block.kind == kind).map(|block| block.slot)
    }
}

fn text(slot: BlockId, text: &str, emit: &mut Emit<'_>) {
    if !text.is_empty() {
        emit(Delta::Text(slot, text));
    }
}

/// Arguments that came with the start of their call: JSON, or a text that holds it. `{}` merely announces that pieces follow.
fn whole_input(input: &RawValue) -> String {
    let text = serde_json::from_str::<String>(input.get());
    let text = text.as_deref().unwrap_or(input.get());
    if matches!(text, "{}" | "null") { String::new() } else { text.to_owned() }
}

fn close(block: Open, emit: &mut Emit<'_>) {
    if !block.input.is_empty() {
        emit(Delta::ToolArguments(block.slot, &block.input));
    }
    emit(Delta::End(block.slot));
}

fn report(value: Option<&Value>, emit: &mut Emit<'_>) {
    if let Some(value) = value {
        emit(Delta::Usage(usage(value, Convention::UncachedInput)));
    }
}
