//! Reading a stream, whichever dialect it speaks.

use serde_json::Value;

use super::anthropic::AnthropicDecoder;
use super::delta::{Delta, StopReason};
use super::openai::OpenAiDecoder;
use super::wire::without_lone_surrogates;
use crate::error::{Error, Result, from_stream};

/// Where deltas go.
pub type Emit<'e> = dyn FnMut(Delta<'_>) + 'e;

/// Decoder of one stream.
#[derive(Debug)]
pub enum Decoder {
    /// `chat.completion.chunk` events.
    OpenAi(OpenAiDecoder),
    /// `message_start` … `message_stop`.
    Anthropic(AnthropicDecoder),
}

impl Decoder {
    /// Decodes one event: its name, which may be empty, and its data. True when the stream says that it is over.
    pub fn event(&mut self, name: &str, data: &[u8], emit: &mut Emit<'_>) -> Result<bool> {
        match self {
            Self::OpenAi(decoder) => decoder.event(name, data, emit),
            Self::Anthropic(decoder) => decoder.event(name, data, emit),
        }
    }

    /// Whether the service has said why it stopped: the answer is complete, whatever becomes of the connection.
    pub fn finished(&self) -> bool {
        match self {
            Self::OpenAi(decoder) => decoder.finished(),
            Self::Anthropic(decoder) => decoder.finished(),
        }
    }

    /// The stream is over: closes what is open and judges how it ended. Returns our reason and the service's own.
    pub fn finish(&mut self, emit: &mut Emit<'_>) -> Result<(StopReason, String)> {
        match self {
            Self::OpenAi(decoder) => decoder.finish(emit),
            Self::Anthropic(decoder) => decoder.finish(emit),
        }
    }
}

/// An event that a strict reader refuses, with lone surrogates repaired; anything else that is not JSON is an error.
pub(super) fn repaired(data: &str, refusal: &serde_json::Error) -> Result<String> {
    without_lone_surrogates(data, "\u{fffd}").ok_or_else(|| unreadable(data, refusal))
}

/// The error for an event that is not JSON.
pub(super) fn unreadable(data: &str, refusal: &serde_json::Error) -> Error {
    Error::protocol(&format!("the stream contains an unreadable frame ({refusal})"), data)
}

/// The error of an `event: error`, whatever its data look like.
pub(super) fn error_event(data: &str) -> Error {
    let body = serde_json::from_str(data).unwrap_or_else(|_| Value::from(data));
    from_stream(body.get("error").filter(|error| !error.is_null()).unwrap_or(&body))
}

/// An id for a call that came without one; unique in the session, because Pi keys its rows on it.
pub(super) fn made_id() -> String {
    format!("call_{:016x}", rand::random::<u64>())
}
