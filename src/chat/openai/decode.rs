//! Decodes events of the OpenAI dialect (docs/protocol.md#chat-events).

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;

use crate::chat::request::tool_call_ids::new_call_id;
use crate::chat::stream::decoder::{DialectDecoder, event_error, nameless_call};
use crate::chat::stream::event::{BlockId, Delta, Emit};
use crate::chat::stream::event_template::{Reading, TextRole};
use crate::chat::stream::stop_reason::{StopReason, common_stop_reason};
use crate::chat::stream::usage::{Convention, usage};
use crate::error::{Error, ErrorKind, Result};
use crate::json::lenient::{Count, JsonText, List, Object, PartsText, Text};

#[derive(Deserialize)]
struct ChatChunk<'a> {
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
    /// A whole answer, which some gateways send in place of deltas.
    #[serde(default, borrow)]
    message: Object<ChoiceDelta<'a>>,
    #[serde(default, borrow)]
    finish_reason: Text<'a>,
    #[serde(default)]
    usage: Option<Value>,
}

#[derive(Deserialize)]
struct ChoiceDelta<'a> {
    #[serde(default, borrow)]
    content: PartsText<'a>,
    #[serde(default, borrow)]
    reasoning_content: PartsText<'a>,
    #[serde(default, borrow)]
    reasoning: PartsText<'a>,
    #[serde(default)]
    reasoning_details: Option<Value>,
    #[serde(default, borrow)]
    tool_calls: List<CallFragment<'a>>,
    /// The one call of older servers.
    #[serde(default, borrow)]
    function_call: Object<FunctionFragment<'a>>,
}

#[derive(Deserialize)]
struct CallFragment<'a> {
    #[serde(default)]
    index: Count,
    #[serde(default, borrow)]
    id: Text<'a>,
    #[serde(default, borrow)]
    function: Object<FunctionFragment<'a>>,
}

#[derive(Deserialize)]
struct FunctionFragment<'a> {
    #[serde(default, borrow)]
    name: Text<'a>,
    #[serde(default, borrow)]
    arguments: JsonText<'a>,
}

impl<'a> ChatChunk<'a> {
    /// Returns the choice that is read.
    fn choice(&self) -> Option<&Choice<'a>> {
        self.choices.0.iter().find(|choice| choice.index.0.unwrap_or(0) == 0)
    }

    /// Returns the text of a chunk that says nothing else, after its first text.
    fn one_text(&self) -> Option<(TextRole, &str)> {
        let choice = self.choice()?;
        let delta = choice.delta.0.as_ref()?;
        let plain = self.usage.is_none()
            && choice.usage.is_none()
            && choice.finish_reason.as_str().is_empty()
            && delta.reasoning_details.is_none()
            && delta.function_call.0.is_none();
        let (member, reasoning) = delta.reasoning().unwrap_or_default();
        match (delta.content.as_str(), reasoning, delta.tool_calls.0.as_slice()) {
            _ if !plain => None,
            ("", "", [CallFragment { index, id, function: Object(Some(function)) }]) => {
                let continues = id.as_str().is_empty() && function.name.as_str().is_empty();
                continues.then_some((TextRole::Arguments(index.0), function.arguments.as_str()))
            }
            ("", reasoning, []) => Some((TextRole::Thinking(None, member), reasoning)),
            (content, "", []) => Some((TextRole::Text(None), content)),
            _ => None,
        }
    }
}

impl ChoiceDelta<'_> {
    /// Returns the reasoning and the member that holds it.
    fn reasoning(&self) -> Option<(&'static str, &str)> {
        match (&self.reasoning_content.0, &self.reasoning.0) {
            // An empty member does not hide a full one.
            (Some(empty), Some(text)) if empty.is_empty() => Some(("reasoning", text)),
            (Some(text), _) => Some(("reasoning_content", text)),
            (None, Some(text)) => Some(("reasoning", text)),
            (None, None) => None,
        }
    }

    fn is_empty(&self) -> bool {
        let texts = [&self.content, &self.reasoning_content, &self.reasoning];
        texts.iter().all(|text| text.0.is_none())
            && self.reasoning_details.is_none()
            && self.tool_calls.0.is_empty()
            && self.function_call.0.is_none()
    }
}

impl FunctionFragment<'_> {
    /// Returns name and arguments, empty if they are absent.
    fn texts(&self) -> (&str, &str) {
        (self.name.as_str(), self.arguments.as_str())
    }
}

/// A tool call while its fragments arrive.
#[derive(Debug, Default)]
struct PendingCall {
    index: Option<u64>,
    /// Empty as long as the service has sent none.
    id: String,
    /// Absent until the name is known.
    block: Option<BlockId>,
    /// Argument text that arrived before the name.
    early: String,
}

/// A reasoning entry while its fragments arrive.
#[derive(Debug)]
struct ReasoningDetail {
    index: Option<u64>,
    kind: String,
    text: String,
}

/// Decoder of one stream.
#[derive(Debug, Default)]
pub struct OpenAiDecoder {
    next_block: BlockId,
    text: Option<BlockId>,
    thinking: Option<BlockId>,
    /// The first thinking block of the answer, which keeps the reasoning entries.
    first_thinking: Option<BlockId>,
    /// Reasoning has come as `reasoning_content`, so summaries repeat it.
    saw_reasoning_content: bool,
    calls: Vec<PendingCall>,
    details: Vec<ReasoningDetail>,
    finish: String,
}

impl DialectDecoder for OpenAiDecoder {
    fn event(&mut self, _: &str, json: &str, emit: &mut Emit<'_>) -> serde_json::Result<Result<Reading>> {
        let Object::<ChatChunk<'_>>(Some(chunk)) = serde_json::from_str(json)? else { return Ok(Ok(Reading::Other)) };
        if let Some(error) = event_error(chunk.object.as_str(), chunk.error.as_ref(), json)? {
            return Ok(Err(error));
        }
        self.chunk(&chunk, emit);
        // Only `[DONE]` ends a stream of this dialect.
        Ok(Ok(chunk.one_text().map_or(Reading::Other, |(role, text)| Reading::one_text(json, role, text))))
    }

    fn text(&mut self, role: TextRole, text: &str, emit: &mut Emit<'_>) {
        match role {
            TextRole::Text(_) => {
                let block = self.open_text(emit);
                emit(Delta::Text(block, text));
            }
            TextRole::Thinking(_, member) => self.think(member, text, emit),
            TextRole::Arguments(index) => self.call(index, "", "", text, emit),
        }
    }

    fn carries_answer(&self, event_name: &str) -> bool {
        matches!(event_name, "" | "message" | "chat.completion.chunk")
    }

    fn finished(&self) -> bool {
        !self.finish.is_empty()
    }

    fn finish(&mut self, visible: bool, emit: &mut Emit<'_>) -> Result<(StopReason, String)> {
        self.emit_details(emit);
        if self.finished() {
            self.report_nameless_calls(visible, emit)?;
        }
        for block in 0..self.next_block {
            emit(Delta::End(block));
        }
        let has_calls = self.calls.iter().any(|call| call.block.is_some());
        let reason = match self.finish.as_str() {
            "stop" | "end" | "tool_calls" | "function_call" if has_calls => StopReason::ToolUse,
            "stop" | "end" | "tool_calls" | "function_call" => StopReason::Stop,
            "" => return Err(Error::new(ErrorKind::Truncated, "Stream ended without finish_reason")),
            other => common_stop_reason("finish_reason", other).unwrap_or_else(|| {
                let other = crate::error::clip(other, 200);
                Err(Error::new(ErrorKind::Protocol, format!("Provider finish_reason: {other}")))
            })?,
        };
        Ok((reason, std::mem::take(&mut self.finish)))
    }
}

impl OpenAiDecoder {
    fn chunk(&mut self, chunk: &ChatChunk<'_>, emit: &mut Emit<'_>) {
        emit(Delta::Meta { id: chunk.id.as_str(), model: chunk.model.as_str() });
        let choice = chunk.choice();
        // The top level is preferred, so it comes last.
        for value in [choice.and_then(|choice| choice.usage.as_ref()), chunk.usage.as_ref()].into_iter().flatten() {
            emit(Delta::TokenUsage(usage(value, Convention::TotalPrompt)));
        }
        let Some(choice) = choice else { return };
        // A message after deltas only repeats them.
        let message = choice.message.0.as_ref().filter(|_| self.next_block == 0);
        if let Some(delta) = choice.delta.0.as_ref().filter(|delta| !delta.is_empty()).or(message) {
            self.reasoning(delta, emit);
            let content = delta.content.as_str();
            if !content.is_empty() {
                let block = self.open_text(emit);
                emit(Delta::Text(block, content));
            }
            for CallFragment { index, id, function } in &delta.tool_calls.0 {
                let (name, arguments) = function.0.as_ref().map(FunctionFragment::texts).unwrap_or_default();
                self.call(index.0, id.as_str(), name, arguments, emit);
            }
            if let Some((name, arguments)) = delta.function_call.0.as_ref().map(FunctionFragment::texts) {
                self.call(Some(0), "", name, arguments, emit);
            }
        }
        let finish = choice.finish_reason.as_str();
        if !finish.is_empty() {
            finish.clone_into(&mut self.finish);
            emit(Delta::Finish(finish));
        }
    }

    fn reasoning(&mut self, delta: &ChoiceDelta<'_>, emit: &mut Emit<'_>) {
        self.saw_reasoning_content |= delta.reasoning_content.0.is_some();
        if let Some((member, text)) = delta.reasoning() {
            self.think(member, text, emit);
        }
        match &delta.reasoning_details {
            Some(Value::String(text)) if !self.saw_reasoning_content => self.think("reasoning_content", text, emit),
            Some(Value::Array(entries)) => entries.iter().for_each(|entry| self.detail(entry, emit)),
            _ => {}
        }
    }

    /// Emits reasoning. An empty text opens a block only if the answer has none yet: it means "reasoned, but empty".
    fn think(&mut self, member: &str, text: &str, emit: &mut Emit<'_>) {
        if text.is_empty() && self.first_thinking.is_some() {
            return;
        }
        let block = self.open_thinking(member, emit);
        emit(Delta::Thinking(block, text));
    }

    fn open_thinking(&mut self, member: &str, emit: &mut Emit<'_>) -> BlockId {
        if let Some(block) = self.thinking {
            return block;
        }
        self.close_running(emit);
        let block = self.claim();
        self.thinking = Some(block);
        self.first_thinking.get_or_insert(block);
        emit(Delta::ThinkingStart { block, signature: member.to_owned(), redacted: false });
        block
    }

    fn open_text(&mut self, emit: &mut Emit<'_>) -> BlockId {
        if let Some(block) = self.text {
            return block;
        }
        self.close_running(emit);
        let block = self.claim();
        self.text = Some(block);
        emit(Delta::TextStart(block));
        block
    }

    /// Ends the open text or thinking block, because another block begins.
    fn close_running(&mut self, emit: &mut Emit<'_>) {
        for block in [self.text.take(), self.thinking.take()].into_iter().flatten() {
            emit(Delta::End(block));
        }
    }

    /// Collects an entry of `reasoning_details`, which comes in fragments with an index. Summaries are shown unless the same text
    /// also comes as `reasoning_content`.
    fn detail(&mut self, entry: &Value, emit: &mut Emit<'_>) {
        let Some(kind) = entry.get("type").and_then(Value::as_str) else { return };
        let Some(text) = entry.get(kind).and_then(Value::as_str) else { return };
        let index = entry.get("index").and_then(Value::as_u64);
        match self.details.iter_mut().find(|known| index.is_some() && known.index == index && known.kind == kind) {
            Some(known) => known.text.push_str(text),
            None => self.details.push(ReasoningDetail { index, kind: kind.to_owned(), text: text.to_owned() }),
        }
        if kind == "summary" && !self.saw_reasoning_content {
            self.think("reasoning_content", text, emit);
        }
    }

    fn emit_details(&mut self, emit: &mut Emit<'_>) {
        if self.details.is_empty() {
            return;
        }
        let block = match self.first_thinking {
            Some(block) => block,
            None => self.open_thinking("reasoning_content", emit),
        };
        let mut details = std::mem::take(&mut self.details);
        details.sort_by_key(|detail| detail.index);
        // The service refuses entries that are replayed with their index (docs/protocol.md#reasoning-details).
        let list = details
            .into_iter()
            .map(|detail| {
                let mut entry = serde_json::Map::new();
                entry.insert("type".to_owned(), Value::from(detail.kind.clone()));
                entry.insert(detail.kind, Value::from(detail.text));
                Value::Object(entry)
            })
            .collect();
        emit(Delta::ThinkingDetails(block, list));
    }

    /// Handles a fragment of a tool call by the rules of docs/protocol.md#tool-call-fragments.
    fn call(&mut self, index: Option<u64>, id: &str, name: &str, arguments: &str, emit: &mut Emit<'_>) {
        let at = match self.call_of(index, id, name) {
            Some(at) => at,
            None if index.is_some() || !name.is_empty() => self.add_call(index),
            None => return,
        };
        if self.calls[at].block.is_none() && !id.is_empty() {
            id.clone_into(&mut self.calls[at].id);
        }
        match self.calls[at].block {
            Some(block) => {
                if !arguments.is_empty() {
                    emit(Delta::ToolArguments(block, arguments));
                }
            }
            None if name.is_empty() => self.calls[at].early.push_str(arguments),
            None => self.start_call(at, name, arguments, emit),
        }
    }

    /// Returns the call that a fragment continues; `None` for the first fragment of another one.
    fn call_of(&mut self, index: Option<u64>, id: &str, name: &str) -> Option<usize> {
        let last = self.calls.len().checked_sub(1);
        let Some(index) = index else {
            let by_id = self.calls.iter().rposition(|call| !id.is_empty() && call.id == id);
            return if name.is_empty() { by_id.or(last) } else { None };
        };
        if let Some(at) = self.calls.iter().rposition(|call| call.index == Some(index)) {
            let call = &self.calls[at];
            // Some gateways number every call 0.
            let another = !name.is_empty() && !id.is_empty() && !call.id.is_empty() && call.id != id;
            return if another && call.block.is_some() { None } else { Some(at) };
        }
        // A call that began without an index may get one with its later fragments.
        let at = last.filter(|_| name.is_empty())?;
        let call = &mut self.calls[at];
        let same = call.index.is_none() && (id.is_empty() || call.id == id);
        same.then(|| {
            call.index = Some(index);
            at
        })
    }

    fn add_call(&mut self, index: Option<u64>) -> usize {
        self.calls.push(PendingCall { index, ..PendingCall::default() });
        self.calls.len() - 1
    }

    fn start_call(&mut self, at: usize, name: &str, arguments: &str, emit: &mut Emit<'_>) {
        self.close_running(emit);
        let block = self.claim();
        let id = match self.calls[at].id.as_str() {
            "" => new_call_id(),
            id => id.to_owned(),
        };
        self.calls[at].block = Some(block);
        emit(Delta::ToolStart { block, id, name });
        let mut text: Cow<'_, str> = Cow::Borrowed(arguments);
        if !self.calls[at].early.is_empty() {
            text = Cow::Owned(std::mem::take(&mut self.calls[at].early) + arguments);
        }
        if !text.is_empty() {
            emit(Delta::ToolArguments(block, &text));
        }
    }

    /// Reports calls of which an id or arguments came, but no name.
    fn report_nameless_calls(&mut self, visible: bool, emit: &mut Emit<'_>) -> Result<()> {
        for at in 0..self.calls.len() {
            let call = &self.calls[at];
            if call.block.is_none() && !(call.id.is_empty() && call.early.is_empty()) {
                self.close_running(emit);
                let block = self.claim();
                let call = &mut self.calls[at];
                nameless_call(visible, block, &call.id, &call.early, emit)?;
                call.block = Some(block);
            }
        }
        Ok(())
    }

    fn claim(&mut self) -> BlockId {
        let block = self.next_block;
        self.next_block += 1;
        block
    }
}
