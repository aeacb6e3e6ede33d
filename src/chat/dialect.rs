//! Which dialect a model is asked in, and everything in which the two differ, side by side: how a request is made, and how its stream
//! is read.

use super::request::body::BodyOptions;
use super::request::normalize::Conversation;
use super::stream::decoder::Decoder;
use super::{anthropic, openai};
use crate::config::Dialect;
use crate::endpoint::Endpoint;
use crate::files::Shape;

impl Dialect {
    /// Returns the dialect of a model: what the live list says about it, else what is configured. The list knows `anthropic`;
    /// every other name means the chat dialect (docs/protocol.md#model-fields).
    pub fn of_model(protocol: Option<&str>, configured: Self) -> Self {
        match protocol.map(str::trim).filter(|protocol| !protocol.is_empty()) {
            Some("anthropic") => Self::Anthropic,
            Some(_) => Self::OpenAi,
            None => configured,
        }
    }

    /// Returns the URL of requests.
    pub fn url(self, endpoint: &Endpoint) -> String {
        match self {
            Self::OpenAi => endpoint.chat_completions(),
            Self::Anthropic => endpoint.messages(),
        }
    }

    /// Returns the headers beyond those of every request. The credential is sent as `Authorization: Bearer` in both dialects,
    /// which the service accepts besides `x-api-key` (docs/protocol.md#messages-headers), so only one header has to be renewed.
    pub fn headers(self) -> &'static [(&'static str, &'static str)] {
        // A proxy that compresses a stream delays its events. Compressed streams are read all the same.
        const PLAIN: (&str, &str) = ("accept-encoding", "identity");
        match self {
            Self::OpenAi => &[PLAIN],
            // The beta is for `context_management`, which keeps earlier reasoning (docs/protocol.md#messages-headers).
            Self::Anthropic => {
                &[PLAIN, ("anthropic-version", "2023-06-01"), ("anthropic-beta", "context-management-2025-06-27")]
            }
        }
    }

    /// Writes the body as JSON.
    pub fn encode(self, conversation: &Conversation<'_>, options: &BodyOptions) -> serde_json::Result<Vec<u8>> {
        match self {
            Self::OpenAi => openai::encode(conversation, options),
            Self::Anthropic => anthropic::encode(conversation, options),
        }
    }

    /// Returns how media are written.
    pub fn shape(self) -> Shape {
        match self {
            Self::OpenAi => Shape::OpenAi,
            Self::Anthropic => Shape::Anthropic,
        }
    }

    /// Returns a decoder for one answer.
    pub fn decoder(self) -> Decoder {
        match self {
            Self::OpenAi => Decoder::new(openai::OpenAiDecoder::default()),
            Self::Anthropic => Decoder::new(anthropic::AnthropicDecoder::default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The protocol of a model outranks the setting (docs/protocol.md#model-fields).
    #[test]
    fn dialect_of_the_model_wins_over_the_setting() {
        let anthropic = Dialect::Anthropic;
        assert_eq!(Dialect::of_model(Some("openai"), anthropic), Dialect::OpenAi);
        assert_eq!(Dialect::of_model(Some("response"), anthropic), Dialect::OpenAi);
        assert_eq!(Dialect::of_model(Some("anthropic"), Dialect::OpenAi), Dialect::Anthropic);
        assert_eq!(Dialect::of_model(Some(" "), anthropic), Dialect::Anthropic);
        assert_eq!(Dialect::of_model(None, Dialect::OpenAi), Dialect::OpenAi);
    }
}
