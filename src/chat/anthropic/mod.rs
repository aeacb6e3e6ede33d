//! The Anthropic dialect: `POST {root}/v1/messages` (protocol reference §7).

mod decode;
mod encode;

pub use decode::AnthropicDecoder;
pub use encode::{encode, turns_of_messages};
