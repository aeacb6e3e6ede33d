//! Which part of a prompt the service reads from its cache, and why it read the rest again (docs/caching.md).
//!
//! ```text
//! scan     finds values in the finished body
//! tokens   estimates tokens
//! chain    a hash for each system prompt, tool and message of a body
//! chain_diff  how far two chains agree, and what differs then
//! session  the last requests of a session, and what the next one should find
//! verdict  what became of a request: grew, changed, expired, dropped
//! records  all sessions of the process · store  their copy on disk, hashes and numbers only
//! report   what users see
//! ```

pub mod chain;
mod chain_diff;
pub mod records;
pub mod report;
mod scan;
pub mod session;
pub mod store;
#[cfg(test)]
mod tests;
mod tokens;
pub mod verdict;

/// Tokens that the service compares at once (docs/protocol.md#prompt-cache).
pub const BLOCK_TOKENS: u64 = 256;
