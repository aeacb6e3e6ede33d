//! The OpenAI dialect: `POST {root}/v1/chat/completions` (docs/protocol.md#openai-dialect).

mod decode;
mod encode;
mod message;
mod tools;

pub use decode::OpenAiDecoder;
pub use encode::encode;
