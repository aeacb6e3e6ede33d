//! Everything in which the two dialects differ, side by side: how a request is made, and how its stream is read.

use super::request::body::BodyOptions;
use super::request::normalize::Conversation;
use super::stream::decoder::Decoder;
use super::{anthropic, openai};
use crate::config::Dialect;
use crate::endpoint::Endpoint;
use crate::files::Shape;

impl Dialect {
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
