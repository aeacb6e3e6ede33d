//! One turn: a transcript in, frames out.
//!
//! One pipeline, and two dialects that differ in exactly two paths: writing the body and reading the stream. The stations
//! in order: [`transcript`] → [`repair`] → dialect encoder → request → [`sse`] → dialect [`decoder`] → [`delta`] →
//! [`blocks`] → [`frame`], driven by [`turn`] under the clocks of [`timeouts`].

pub mod anthropic;
pub mod dialect;
pub mod openai;
pub mod prompt_cache;
pub mod request;
pub mod stream;
pub mod turn;
