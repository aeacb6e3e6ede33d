//! # pi-provider-kimi-code, the native half
//!
//! Handles the network, the credentials and the bytes of Moonshot's Kimi Code service. A conversation goes in, frames of finished
//! output come out; JavaScript never sees a network chunk, a refresh token or an event boundary.
//!
//! ```text
//! bindings/     the only code that names napi: converts, schedules, maps errors; decides nothing
//! doctor/       examines the machine and the connection, line by line
//! chat/         one turn: transcript → normalize → body → request → events → deltas → frames
//! files/        images and videos: uploaded once per account, referenced from then on
//! models/       live list, its copy on disk, built-in table, prices
//! services/     quota and account, Kimi's own tools: web search, page fetch, data sources
//! client        `Kimi`: configuration, connection pool, credentials
//! auth/         which credential a request carries: logins, their files and locks, one refresh per machine
//! http/         connection pools, retries, identity, redaction · runtime  the addon's own I/O thread · logging
//! config/       settings in layers, environment
//! storage/      private files, directory locks, leases, clocks
//! endpoint      URLs and regions · json/ · process_state  what lives as long as the process · blocking  work that may block
//! error/        one error type; its kind decides retry, wording and Pi's reaction · display_text  text that is safe to print
//! ```
//!
//! Imports point down this list. One thread serves all turns of the process, so anything that computes for longer than half a
//! millisecond goes to [`blocking`].
#[forbid(unsafe_code)]
pub mod auth;
#[allow(missing_docs, reason = "documented where TypeScript sees it: extension/native/addon.ts")]
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
pub mod doctor;
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
