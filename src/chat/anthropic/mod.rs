//! The Anthropic dialect: `POST {root}/v1/messages` (docs/protocol.md#anthropic-dialect).

mod decode;
mod encode;

pub use decode::AnthropicDecoder;
pub use encode::{encode, turns_of_messages};
