//! One turn: a transcript in, frames out.
//!
//! One pipeline, and two dialects that differ in exactly two paths: writing the body and reading the stream. The stations
//! in order: `request/transcript` → `request/normalize` → dialect encoder → request → `stream/sse` → dialect decoder →
//! `stream/message` → `stream/op_queue`, driven by [`turn`] within the limits of `stream/timeouts.rs`.

pub mod anthropic;
pub mod dialect;
pub mod openai;
pub mod prompt_cache;
pub mod request;
pub mod stream;
pub mod turn;
