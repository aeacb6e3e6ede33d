//! The two paths in which the dialects differ, side by side: where and how a request is made, and how its stream is read.

use super::request::normalize::Conversation;
use super::request::options::BodyOptions;
use super::stream::decoder::Decoder;
use super::{anthropic, openai};
use crate::config::Dialect;
use crate::endpoint::Endpoint;
use crate::files::Shape;

impl Dialect {
    /// Where requests go.
    pub fn url(self, endpoint: &Endpoint) -> String {
        match self {
            Self::OpenAi => endpoint.chat_completions(),
            Self::Anthropic => endpoint.messages(),
        }
    }

    /// Headers beyond those of every request. The credential travels as `Authorization: Bearer` in both dialects: the
    /// service takes it here as well as `x-api-key` (docs/protocol.md#messages-headers), and one place for it is one place to
    /// renew.
    pub fn headers(self) -> &'static [(&'static str, &'static str)] {
        // A proxy that compresses a stream holds its events back. One that does so unasked is understood all the same.
        const PLAIN: (&str, &str) = ("accept-encoding", "identity");
        match self {
            Self::OpenAi => &[PLAIN],
            // The beta is for `context_management`, which keeps earlier reasoning (docs/protocol.md#messages-headers).
            Self::Anthropic => {
                &[PLAIN, ("anthropic-version", "2023-06-01"), ("anthropic-beta", "context-management-2025-06-27")]
            }
        }
    }

    /// The body as JSON bytes.
    pub fn encode(self, conversation: &Conversation<'_>, options: &BodyOptions) -> serde_json::Result<Vec<u8>> {
        match self {
            Self::OpenAi => openai::encode(conversation, options),
            Self::Anthropic => anthropic::encode(conversation, options),
        }
    }

    /// How media are written.
    pub fn shape(self) -> Shape {
        match self {
            Self::OpenAi => Shape::OpenAi,
            Self::Anthropic => Shape::Anthropic,
        }
    }

    /// A decoder for one answer.
    pub fn decoder(self) -> Decoder {
        match self {
            Self::OpenAi => Decoder::new(openai::OpenAiDecoder::default()),
            Self::Anthropic => Decoder::new(anthropic::AnthropicDecoder::default()),
        }
    }
}
