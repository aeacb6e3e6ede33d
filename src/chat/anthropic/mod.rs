//! The Anthropic dialect: `POST {root}/v1/messages` (protocol reference §7).

mod decode;

pub use decode::AnthropicDecoder;
