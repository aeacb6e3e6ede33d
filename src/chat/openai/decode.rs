//! Events of the OpenAI dialect → deltas (docs/protocol.md#chat-events).

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;

use crate::chat::stream::decoder::{Emit, made_id};
use crate::chat::stream::event::{BlockId, Delta, StopReason};
use crate::chat::stream::usage::{Convention, usage};
use crate::error::{Error, ErrorKind, Result, from_stream, reported};
use crate::json::lenient::{Count, Text};
use crate::json::shape::{JsonText, List, Object};

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(default, borrow)]
    id: Text<'a>,
    #[serde(default, borrow)]
    model: Text<'a>,
    #[serde(default, borrow)]
    object: Text<'a>,
    #[serde(default, borrow)]
    choices: List<Choice<'a>>,
    #[serde(default)]
    usage: Option<Value>,
    #[serde(default)]
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default)]
    index: Count,
    #[serde(default, borrow)]
    delta: Object<ChoiceDelta<'a>>,
    #[serde(default, borrow)]
    finish_reason: Text<'a>,
    #[serde(default)]
    usage: Option<Value>,
}

#[derive(Deserialize)]
struct ChoiceDelta<'a> {
    #[serde(default, borrow)]
    content: Text<'a>,
    #[serde(default, borrow)]
    reasoning_content: Text<'a>,
    #[serde(default, borrow)]
    reasoning: Text<'a>,
    #[serde(default)]
    reasoning_details: Option<Value>,
    #[serde(default, borrow)]
    tool_calls: List<CallPiece<'a>>,
}

#[derive(Deserialize)]
struct CallPiece<'a> {
    #[serde(default)]
    index: Count,
    #[serde(default, borrow)]
    id: Text<'a>,
    #[serde(default, borrow)]
    function: Object<FunctionPiece<'a>>,
}

#[derive(Deserialize)]
struct FunctionPiece<'a> {
    #[serde(default, borrow)]
    name: Text<'a>,
    #[serde(default, borrow)]
    arguments: JsonText<'a>,
}

/// A tool call while its pieces arrive.
#[derive(Debug, Default)]
struct Call {
    index: Option<u64>,
    /// As the service says it, which may be never.
    id: String,
    /// RequestContext once the name is.
    slot: Option<BlockId>,
    /// Argument text that arrived before the name.
    early: String,
}

/// A reasoning entry while its pieces arrive.
#[derive(Debug)]
struct Detail {
    index: Option<u64>,
    kind: String,
    text: String,
}

/// Decoder of one stream.
#[derive(Debug, Default)]
pub struct OpenAiDecoder {
    next_slot: BlockId,
    text: Option<BlockId>,
    thinking: Option<BlockId>,
    /// The first thinking block of the answer: reasoning entries are kept with it.
    first_thinking: Option<BlockId>,
    /// Field names through which reasoning came.
    saw_reasoning_content: bool,
    calls: Vec<Call>,
    details: Vec<Detail>,
    finish: String,
}

impl OpenAiDecoder {
    /// Decodes the JSON of one event.
    pub fn event(&mut self, json: &str, emit: &mut Emit<'_>) -> serde_json::Result<Result<()>> {
        let Object::<Chunk<'_>>(Some(chunk)) = serde_json::from_str(json)? else { return Ok(Ok(())) };
        // Some servers report an error without wrapping it.
        if chunk.object.as_str() == "error" && reported(chunk.error.as_ref()).is_none() {
            return Ok(Err(from_stream(&serde_json::from_str(json)?)));
        }
        Ok(self.chunk(&chunk, emit))
    }

    /// Whether the service has said why it stopped; what follows is bookkeeping.
    pub fn finished(&self) -> bool {
        !self.finish.is_empty()
    }

    /// The stream is over: closes what is open and judges how it ended. Returns our reason and the service's own.
    pub fn finish(&mut self, emit: &mut Emit<'_>) -> Result<(StopReason, String)> {
        self.emit_details(emit);
        for slot in 0..self.next_slot {
            emit(Delta::End(slot));
        }
        let has_calls = self.calls.iter().any(|call| call.slot.is_some());
        let reason = match self.finish.as_str() {
            "stop" | "end" | "tool_calls" | "function_call" if has_calls => StopReason::ToolUse,
            "stop" | "end" | "tool_calls" | "function_call" => StopReason::Stop,
            "length" => StopReason::Length,
            "" => return Err(Error::new(ErrorKind::Truncated, "Stream ended without finish_reason")),
            "content_filter" => {
                return Err(Error::new(
                    ErrorKind::Filtered,
                    "Provider finish_reason: content_filter (the service withheld the rest of the answer)",
                ));
            }
            other => {
                let other = crate::error::clip(other, 200);
                return Err(Error::new(ErrorKind::Protocol, format!("Provider finish_reason: {other}")));
            }
        };
        Ok((reason, std::mem::take(&mut self.finish)))
    }

    fn chunk(&mut self, chunk: &Chunk<'_>, emit: &mut Emit<'_>) -> Result<()> {
        if let Some(error) = reported(chunk.error.as_ref()) {
            return Err(from_stream(error));
        }
        emit(Delta::Meta { id: chunk.id.as_str(), model: chunk.model.as_str() });
        let choice = chunk.choices.0.iter().find(|choice| choice.index.0.unwrap_or(0) == 0);
        // The top level is preferred, so it comes last.
        for value in [choice.and_then(|choice| choice.usage.as_ref()), chunk.usage.as_ref()].into_iter().flatten() {
            emit(Delta::Usage(usage(value, Convention::TotalPrompt)));
        }
        let Some(choice) = choice else { return Ok(()) };
        if let Some(delta) = &choice.delta.0 {
            self.reasoning(delta, emit);
            let content = delta.content.as_str();
            if !content.is_empty() {
                let slot = self.open_text(emit);
                emit(Delta::Text(slot, content));
            }
            for piece in &delta.tool_calls.0 {
                self.call(piece, emit);
            }
        }
        let finish = choice.finish_reason.as_str();
        if !finish.is_empty() {
            finish.clone_into(&mut self.finish);
            emit(Delta::Finish(finish));
        }
        Ok(())
    }

    fn reasoning(&mut self, delta: &ChoiceDelta<'_>, emit: &mut Emit<'_>) {
        self.saw_reasoning_content |= delta.reasoning_content.0.is_some();
        match (&delta.reasoning_content.0, &delta.reasoning.0) {
            // An empty field says less than a full one.
            (Some(empty), Some(text)) if empty.is_empty() => self.think("reasoning", text, emit),
            (Some(text), _) => self.think("reasoning_content", text, emit),
            (None, Some(text)) => self.think("reasoning", text, emit),
            (None, None) => {}
        }
        match &delta.reasoning_details {
            Some(Value::String(text)) if !self.saw_reasoning_content => self.think("reasoning_content", text, emit),
            Some(Value::Array(entries)) => entries.iter().for_each(|entry| self.detail(entry, emit)),
            _ => {}
        }
    }

    /// Reasoning text. An empty piece opens a block only if the answer has none yet: it says "reasoned, but empty".
    fn think(&mut self, field: &str, text: &str, emit: &mut Emit<'_>) {
        if text.is_empty() && self.first_thinking.is_some() {
            return;
        }
        let slot = self.open_thinking(field, emit);
        emit(Delta::Thinking(slot, text));
    }

    fn open_thinking(&mut self, field: &str, emit: &mut Emit<'_>) -> BlockId {
        if let Some(slot) = self.thinking {
            return slot;
        }
        self.close_running(emit);
        let slot = self.claim();
        self.thinking = Some(slot);
        self.first_thinking.get_or_insert(slot);
        emit(Delta::ThinkingStart { slot, signature: field.to_owned(), redacted: false });
        slot
    }

    fn open_text(&mut self, emit: &mut Emit<'_>) -> BlockId {
        if let Some(slot) = self.text {
            return slot;
        }
        self.close_running(emit);
        let slot = self.claim();
        self.text = Some(slot);
        emit(Delta::TextStart(slot));
        slot
    }

    /// Text and thinking alternate: the one under way ends where the other begins.
    fn close_running(&mut self, emit: &mut Emit<'_>) {
        for slot in [self.text.take(), self.thinking.take()].into_iter().flatten() {
            emit(Delta::End(slot));
        }
    }

    /// Entries of `reasoning_details` come in pieces with an index; the summary is shown unless the same text also
    /// comes as `reasoning_content`.
    fn detail(&mut self, entry: &Value, emit: &mut Emit<'_>) {
        let Some(kind) = entry.get("type").and_then(Value::as_str) else { return };
        let Some(text) = entry.get(kind).and_then(Value::as_str) else { return };
        let index = entry.get("index").and_then(Value::as_u64);
        match self.details.iter_mut().find(|known| index.is_some() && known.index == index && known.kind == kind) {
            Some(known) => known.text.push_str(text),
            None => self.details.push(Detail { index, kind: kind.to_owned(), text: text.to_owned() }),
        }
        if kind == "summary" && !self.saw_reasoning_content {
            self.think("reasoning_content", text, emit);
        }
    }

    fn emit_details(&mut self, emit: &mut Emit<'_>) {
        if self.details.is_empty() {
            return;
        }
        let slot = match self.first_thinking {
            Some(slot) => slot,
            None => self.open_thinking("reasoning_content", emit),
        };
        let mut details = std::mem::take(&mut self.details);
        details.sort_by_key(|detail| detail.index);
        // The index must not come back: the service answers it with a 400 (docs/protocol.md#reasoning-details).
        let list = details
            .into_iter()
            .map(|detail| {
                let mut entry = serde_json::Map::new();
                entry.insert("type".to_owned(), Value::from(detail.kind.clone()));
                entry.insert(detail.kind, Value::from(detail.text));
                Value::Object(entry)
            })
            .collect();
        emit(Delta::ThinkingDetails(slot, list));
    }

    /// One piece of a tool call; the rules are those of docs/protocol.md#tool-call-fragments.
    fn call(&mut self, piece: &CallPiece<'_>, emit: &mut Emit<'_>) {
        let function = piece.function.0.as_ref();
        let name = function.map_or("", |function| function.name.as_str());
        let arguments = function.map_or("", |function| function.arguments.as_str());
        let id = piece.id.as_str();
        let at = match self.call_of(piece.index.0, id, name) {
            Some(at) => at,
            None if piece.index.0.is_some() || !name.is_empty() => self.add_call(piece.index.0),
            None => return,
        };
        if self.calls[at].slot.is_none() && !id.is_empty() {
            id.clone_into(&mut self.calls[at].id);
        }
        match self.calls[at].slot {
            Some(slot) => {
                if !arguments.is_empty() {
                    emit(Delta::ToolArguments(slot, arguments));
                }
            }
            None if name.is_empty() => self.calls[at].early.push_str(arguments),
            None => self.start_call(at, name, arguments, emit),
        }
    }

    /// The call that a piece goes on with; `None` for the first piece of another one.
    fn call_of(&mut self, index: Option<u64>, id: &str, name: &str) -> Option<usize> {
        let last = self.calls.len().checked_sub(1);
        let Some(index) = index else {
            let by_id = self.calls.iter().rposition(|call| !id.is_empty() && call.id == id);
            return if name.is_empty() { by_id.or(last) } else { None };
        };
        if let Some(at) = self.calls.iter().rposition(|call| call.index == Some(index)) {
            let call = &self.calls[at];
            // Some gateways count every call as the first one.
            let another = !name.is_empty() && !id.is_empty() && !call.id.is_empty() && call.id != id;
            return if another && call.slot.is_some() { None } else { Some(at) };
        }
        // A call that began without an index is numbered by its later pieces.
        let at = last.filter(|_| name.is_empty())?;
        let call = &mut self.calls[at];
        let same = call.index.is_none() && (id.is_empty() || call.id == id);
        same.then(|| {
            call.index = Some(index);
            at
        })
    }

    fn add_call(&mut self, index: Option<u64>) -> usize {
        self.calls.push(Call { index, ..Call::default() });
        self.calls.len() - 1
    }

    fn start_call(&mut self, at: usize, name: &str, arguments: &str, emit: &mut Emit<'_>) {
        self.close_running(emit);
        let slot = self.claim();
        let id = match self.calls[at].id.as_str() {
            "" => made_id(),
            id => id.to_owned(),
        };
        self.calls[at].slot = Some(slot);
        emit(Delta::ToolStart { slot, id, name });
        let mut text: Cow<'_, str> = Cow::Borrowed(arguments);
        if !self.calls[at].early.is_empty() {
            text = Cow::Owned(std::mem::take(&mut self.calls[at].early) + arguments);
        }
        if !text.is_empty() {
            emit(Delta::ToolArguments(slot, &text));
        }
    }

    fn claim(&mut self) -> BlockId {
        let slot = self.next_slot;
        self.next_slot += 1;
        slot
    }
}
