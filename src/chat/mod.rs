//! One turn: a transcript in, frames out.
//!
//! One pipeline, and two dialects that differ in exactly two places: writing the body and reading the stream. The stations
//! in order: [`transcript`] → [`repair`] → dialect encoder → request → [`sse`] → dialect [`decoder`] → [`delta`] →
//! [`blocks`] → [`frame`], driven by [`turn`] under the clocks of [`watchdog`].

pub mod anthropic;
pub mod blocks;
pub mod body;
pub mod call_ids;
pub mod decoder;
pub mod delta;
pub mod dialect;
pub mod frame;
pub mod openai;
pub mod placeholder;
pub mod quarantine;
pub mod repair;
pub mod seams;
pub mod shape;
pub mod sse;
pub mod thinking;
pub mod tool_args;
pub mod tool_schema;
pub mod transcript;
pub mod turn;
pub mod usage;
pub mod watchdog;
pub mod wire;
