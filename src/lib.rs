//! # pi-provider-kimi-code, the native half
//!
//! Everything that touches the network, the credentials and the bytes of Moonshot's Kimi Code service. A transcript goes
//! in, frames of finished meaning come out; JavaScript never sees a network chunk, a token or an event boundary.
//!
//! ```text
//! bindings/   the only code that names napi: converts, schedules, maps errors; decides nothing
//! client      `Kimi`: configuration, connection pool, credentials; every public operation starts here
//! auth/       whose credential a request carries: logins, their files and locks, one refresh per machine
//! chat/       one turn: transcript → repair → body → request → events → deltas → frames
//! files/      images and videos: uploaded once per account, referenced from then on
//! services/   quota and account, Kimi's own tools: web search, page fetch, data sources
//! catalog/    the models: live list, its copy on disk, fallback table, prices
//! config      settings in layers, environment · endpoint  URLs · identity  who we say we are
//! http        the shared connection pools · retry  what may be tried again, and when
//! error       one error type; its kind decides retry, wording and what Pi does next · blocking  what may block
//! display_text  sizes, durations, and text that is safe to print
//! ```
//!
//! Dependencies point down this list and never up. One thread serves all turns of the process, so anything that
//! computes for longer than half a millisecond goes to `background`.
#[forbid(unsafe_code)]
pub mod auth;
#[allow(missing_docs, reason = "documented where TypeScript sees it: extension/native.ts")]
pub mod bindings;
#[forbid(unsafe_code)]
pub mod blocking;
#[forbid(unsafe_code)]
pub mod chat;
#[forbid(unsafe_code)]
pub mod client;
#[forbid(unsafe_code)]
pub mod config;
#[forbid(unsafe_code)]
pub mod display_text;
#[forbid(unsafe_code)]
pub mod endpoint;
#[forbid(unsafe_code)]
pub mod error;
#[forbid(unsafe_code)]
pub mod files;
#[forbid(unsafe_code)]
pub mod http;
#[forbid(unsafe_code)]
pub mod json;
#[forbid(unsafe_code)]
pub mod logging;
#[forbid(unsafe_code)]
pub mod models;
#[forbid(unsafe_code)]
pub mod plan;
#[forbid(unsafe_code)]
pub mod process_state;
#[forbid(unsafe_code)]
pub mod runtime;
#[forbid(unsafe_code)]
pub mod services;
#[forbid(unsafe_code)]
pub mod storage;

/// Version of the crate and of the npm package; `index.ts` refuses an addon that says another one.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
