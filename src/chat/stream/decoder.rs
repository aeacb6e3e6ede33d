//! Reading a stream, whichever dialect it speaks.

use serde_json::Value;

use super::event::{Delta, StopReason};
use super::surrogate_joiner::{SurrogateJoiner, marked};
use crate::chat::anthropic::AnthropicDecoder;
use crate::chat::openai::OpenAiDecoder;
use crate::error::{Error, Result, from_stream, reported};

/// Where deltas go.
pub type Emit<'e> = dyn FnMut(Delta<'_>) + 'e;

/// Decoder of one stream.
#[derive(Debug)]
pub struct Decoder {
    dialect: Reading,
    surrogate_joiner: SurrogateJoiner,
}

#[derive(Debug)]
enum Reading {
    /// `chat.completion.chunk` events.
    OpenAi(OpenAiDecoder),
    /// `message_start` … `message_stop`.
    Anthropic(AnthropicDecoder),
}

impl Decoder {
    /// For an answer of the OpenAI dialect.
    pub fn openai() -> Self {
        Self { dialect: Reading::OpenAi(OpenAiDecoder::default()), surrogate_joiner: SurrogateJoiner::default() }
    }

    /// For an answer of the Anthropic dialect.
    pub fn anthropic() -> Self {
        Self { dialect: Reading::Anthropic(AnthropicDecoder::default()), surrogate_joiner: SurrogateJoiner::default() }
    }

    /// Decodes one event: its name, which may be empty, and its data. True when the stream says that it is over.
    pub fn event(&mut self, name: &str, data: &[u8], emit: &mut Emit<'_>) -> Result<bool> {
        let data = String::from_utf8_lossy(data);
        let data = data.trim();
        match data {
            "[DONE]" => return Ok(true),
            "" => return Ok(false),
            _ if name == "error" => return Err(error_event(data)),
            _ => {}
        }
        match self.read(name, data, false, emit) {
            Ok(understood) => understood,
            Err(refusal) => self.read_odd(name, data, &refusal, emit),
        }
    }

    /// What a strict reader refuses although others take it: halves of characters, members given twice, events that only
    /// somebody else understands.
    fn read_odd(&mut self, name: &str, data: &str, refusal: &serde_json::Error, emit: &mut Emit<'_>) -> Result<bool> {
        let marked = marked(data);
        if let Some(marked) = &marked
            && let Ok(understood) = self.read(name, marked, true, emit)
        {
            return understood;
        }
        // The last of two members of one name counts, as it does in JavaScript.
        let text = marked.as_deref().unwrap_or(data);
        if let Ok(value) = serde_json::from_str::<Value>(text)
            && let Ok(understood) = self.read(name, &value.to_string(), marked.is_some(), emit)
        {
            return understood;
        }
        if self.carries_answers(name) {
            return Err(Error::protocol(&format!("the stream contains an unreadable frame ({refusal})"), data));
        }
        Ok(false)
    }

    /// The outer error means that the event is not JSON of the dialect, and that nothing was emitted.
    fn read(&mut self, name: &str, json: &str, marked: bool, emit: &mut Emit<'_>) -> serde_json::Result<Result<bool>> {
        let Self { dialect, surrogate_joiner } = self;
        let mut mending = |delta: Delta<'_>| surrogate_joiner.pass(delta, marked, emit);
        let emit: &mut Emit<'_> = &mut mending;
        match dialect {
            // A stream of this dialect ends with `[DONE]` and nothing else.
            Reading::OpenAi(decoder) => Ok(decoder.event(json, emit)?.map(|()| false)),
            Reading::Anthropic(decoder) => decoder.event(name, json, emit),
        }
    }

    /// Whether the answer may come in events of this name: whatever a gateway sends under others, a pulse for example, is its own
    /// affair.
    fn carries_answers(&self, name: &str) -> bool {
        match self.dialect {
            Reading::OpenAi(_) => matches!(name, "" | "message" | "chat.completion.chunk"),
            Reading::Anthropic(_) => {
                name.is_empty() || name.starts_with("message") || name.starts_with("content_block")
            }
        }
    }

    /// Whether the service has said why it stopped: the answer is complete, whatever becomes of the connection.
    pub fn finished(&self) -> bool {
        match &self.dialect {
            Reading::OpenAi(decoder) => decoder.finished(),
            Reading::Anthropic(decoder) => decoder.finished(),
        }
    }

    /// The stream is over: closes what is open and judges how it ended. Returns our reason and the service's own.
    pub fn finish(&mut self, emit: &mut Emit<'_>) -> Result<(StopReason, String)> {
        let Self { dialect, surrogate_joiner } = self;
        let mut mending = |delta: Delta<'_>| surrogate_joiner.pass(delta, false, emit);
        match dialect {
            Reading::OpenAi(decoder) => decoder.finish(&mut mending),
            Reading::Anthropic(decoder) => decoder.finish(&mut mending),
        }
    }
}

/// The error of an `event: error`, whatever its data look like.
fn error_event(data: &str) -> Error {
    let body = serde_json::from_str(data).unwrap_or_else(|_| Value::from(data));
    from_stream(reported(body.get("error")).unwrap_or(&body))
}

/// An id for a call that came without one; unique in the session, because Pi keys its rows on it.
pub(in crate::chat) fn made_id() -> String {
    format!("call_{:016x}", rand::random::<u64>())
}
