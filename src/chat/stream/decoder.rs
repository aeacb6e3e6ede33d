//! Decodes the events of a stream, whichever dialect it speaks.

use std::fmt;

use serde_json::Value;

use super::event::{BlockId, Delta, Emit};
use super::event_template::{EventTemplate, Reading, TextRole};
use super::stop_reason::StopReason;
use super::surrogate_joiner::{SurrogateJoiner, marked};
use crate::chat::request::tool_call_ids::new_call_id;
use crate::error::{Error, Result, from_stream, reported};

/// What a dialect knows about its events.
pub trait DialectDecoder: fmt::Debug + Send {
    /// Decodes the JSON of one event. The outer error means that the event is not JSON of the dialect, and that nothing was emitted.
    fn event(&mut self, name: &str, json: &str, emit: &mut Emit<'_>) -> serde_json::Result<Result<Reading>>;

    /// Decodes an event that differs from the last one only in its text, which is not empty.
    fn text(&mut self, role: TextRole, text: &str, emit: &mut Emit<'_>);

    /// Whether parts of the answer may come in events of this name. Gateways send other events, keep-alives for example, under
    /// names of their own.
    fn carries_answer(&self, event_name: &str) -> bool;

    /// Whether the service has said why it stopped. The answer is then complete, whatever becomes of the connection.
    fn finished(&self) -> bool;

    /// Ends all open blocks and returns why the answer ended: our reason and the service's own word. `visible` says that the user
    /// has seen a part of the answer.
    fn finish(&mut self, visible: bool, emit: &mut Emit<'_>) -> Result<(StopReason, String)>;
}

/// Decoder of one stream.
#[derive(Debug)]
pub struct Decoder {
    dialect: Box<dyn DialectDecoder>,
    surrogates: SurrogateJoiner,
    template: EventTemplate,
}

impl Decoder {
    /// Makes a decoder for one answer.
    pub fn new(dialect: impl DialectDecoder + 'static) -> Self {
        Self { dialect: Box::new(dialect), surrogates: SurrogateJoiner::default(), template: EventTemplate::default() }
    }

    /// Decodes one event: its name, which may be empty, and its data. True when the stream says that it is over.
    pub fn event(&mut self, name: &str, data: &[u8], emit: &mut Emit<'_>) -> Result<bool> {
        let Self { dialect, surrogates, template } = self;
        if let Some((role, text)) = template.read(name, data) {
            dialect.text(role, &text, &mut |delta| surrogates.pass(delta, false, emit));
            return Ok(false);
        }
        template.forget();
        let data = String::from_utf8_lossy(data);
        let data = data.trim();
        match data {
            "[DONE]" => return Ok(true),
            "" => return Ok(false),
            _ if name == "error" => return Err(error_event(data)),
            _ => {}
        }
        let reading = match self.read(name, data, false, emit) {
            Ok(reading) => reading?,
            Err(reason) => return self.read_repaired(name, data, &reason, emit),
        };
        self.template.keep(name, data, &reading);
        Ok(reading == Reading::Over)
    }

    /// Decodes what a strict reader refuses and JavaScript accepts: lone surrogates, and members given twice.
    fn read_repaired(
        &mut self,
        name: &str,
        data: &str,
        reason: &serde_json::Error,
        emit: &mut Emit<'_>,
    ) -> Result<bool> {
        let marked = marked(data);
        if let Some(marked) = &marked
            && let Ok(reading) = self.read(name, marked, true, emit)
        {
            return Ok(reading? == Reading::Over);
        }
        // A `Value` keeps the last of two members of one name, as JavaScript does.
        let text = marked.as_deref().unwrap_or(data);
        if let Ok(value) = serde_json::from_str::<Value>(text)
            && let Ok(reading) = self.read(name, &value.to_string(), marked.is_some(), emit)
        {
            return Ok(reading? == Reading::Over);
        }
        if self.dialect.carries_answer(name) {
            return Err(Error::protocol(&format!("the stream contains an unreadable frame ({reason})"), data));
        }
        Ok(false)
    }

    fn read(
        &mut self,
        name: &str,
        json: &str,
        marked: bool,
        emit: &mut Emit<'_>,
    ) -> serde_json::Result<Result<Reading>> {
        let Self { dialect, surrogates, .. } = self;
        dialect.event(name, json, &mut |delta| surrogates.pass(delta, marked, emit))
    }

    /// Whether the service has said why it stopped. The answer is then complete, whatever becomes of the connection.
    pub fn finished(&self) -> bool {
        self.dialect.finished()
    }

    /// Ends all open blocks and returns why the answer ended: our reason and the service's own word. `visible` says that the user
    /// has seen a part of the answer.
    pub fn finish(&mut self, visible: bool, emit: &mut Emit<'_>) -> Result<(StopReason, String)> {
        let Self { dialect, surrogates, .. } = self;
        dialect.finish(visible, &mut |delta| surrogates.pass(delta, false, emit))
    }
}

/// Name under which a call without a name is reported, so that the model learns of its mistake and calls again.
const UNKNOWN_TOOL: &str = "unknown_tool";

/// Handles a call whose name never came: an error while the attempt can be repeated, else a call of an unknown tool.
pub fn nameless_call(visible: bool, block: BlockId, id: &str, arguments: &str, emit: &mut Emit<'_>) -> Result<()> {
    if !visible {
        return Err(Error::protocol("the answer contains a tool call without a name", arguments));
    }
    let id = if id.is_empty() { new_call_id() } else { id.to_owned() };
    emit(Delta::ToolStart { block, id, name: UNKNOWN_TOOL });
    emit(Delta::ToolArguments(block, arguments));
    Ok(())
}

/// Returns the error of an `event: error`, whatever its data look like.
fn error_event(data: &str) -> Error {
    let body = serde_json::from_str(data).unwrap_or_else(|_| Value::from(data));
    from_stream(reported(body.get("error")).unwrap_or(&body))
}

/// Returns the error that an event reports: in its member `error`, or, where its kind is "error", as a whole.
pub fn event_error(kind: &str, error: Option<&Value>, json: &str) -> serde_json::Result<Option<Error>> {
    match reported(error) {
        Some(error) => Ok(Some(from_stream(error))),
        None if kind == "error" => Ok(Some(from_stream(&serde_json::from_str(json)?))),
        None => Ok(None),
    }
}
