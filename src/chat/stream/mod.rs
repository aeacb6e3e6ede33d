//! Reads a response stream and turns it into the operations that JavaScript applies.
//!
//! Bytes → [`sse`] events → [`decoder`] → [`event::Delta`] → [`message`] → [`op_queue`].

pub mod answer_size;
pub mod decoder;
pub mod empty_response;
pub mod event;
pub mod event_template;
pub mod frame_clock;
pub mod message;
pub mod op_queue;
pub mod sse;
pub mod stop_reason;
pub mod surrogate_joiner;
pub mod timeouts;
pub mod tool_args;
pub mod usage;
