//! The OpenAI dialect: `POST {root}/v1/chat/completions` (protocol reference §6).

mod decode;
mod encode;
mod message;
mod tools;

pub use decode::OpenAiDecoder;
pub use encode::encode;
