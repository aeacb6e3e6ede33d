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
        let data = String::from_utf8_lossy(data);
        let data = data.trim();
        match data {
            "[DONE]" => return Ok(true),
            "" => return Ok(false),
            _ if name == "error" => return Err(error_event(data)),
            _ => {}
        }
        let unreadable = |refusal: &serde_json::Error| {
            Error::protocol(&format!("the stream contains an unreadable frame ({refusal})"), data)
        };
        let refusal = match self.read(name, data, emit) {
            Ok(understood) => return understood,
            Err(refusal) => refusal,
        };
        let repaired = without_lone_surrogates(data, "\u{fffd}").ok_or_else(|| unreadable(&refusal))?;
        self.read(name, &repaired, emit).map_err(|refusal| unreadable(&refusal))?
    }

    /// The outer error means that the event is not JSON of the dialect, and that nothing was emitted.
    fn read(&mut self, name: &str, json: &str, emit: &mut Emit<'_>) -> serde_json::Result<Result<bool>> {
        match self {
            // A stream of this dialect ends with `[DONE]` and nothing else.
            Self::OpenAi(decoder) => Ok(decoder.event(json, emit)?.map(|()| false)),
            Self::Anthropic(decoder) => decoder.event(name, json, emit),
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

/// The error of an `event: error`, whatever its data look like.
fn error_event(data: &str) -> Error {
    let body = serde_json::from_str(data).unwrap_or_else(|_| Value::from(data));
    from_stream(body.get("error").filter(|error| !error.is_null()).unwrap_or(&body))
}

/// An id for a call that came without one; unique in the session, because Pi keys its rows on it.
pub(super) fn made_id() -> String {
    format!("call_{:016x}", rand::random::<u64>())
}
