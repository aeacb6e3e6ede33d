//! The Anthropic dialect: `POST {root}/v1/messages` (protocol reference §7).

mod encode;

pub use encode::{encode, turns_of_messages};
