//! Brings tools into the form that the service takes.
//!
//! Moonshot checks every tool against its own subset of JSON Schema, MFJS. One tool that fails fails the request, and with it
//! every later one of the session (docs/protocol.md#tool-schema-subset). A schema within MFJS is sent unchanged. Any other is
//! rewritten into one with the same meaning as far as MFJS can express it; the rest becomes text for the model. The result
//! depends on the schema alone, so unchanged tools keep their bytes and cost one lookup.

mod argument_names;
mod cache;
mod keywords;
mod limits;
mod mfjs;
mod normalize;
mod normalized;
mod problem;
mod references;
mod shrink;
mod types;
mod validate;
mod wire_tool;

#[cfg(test)]
mod tests;

pub use argument_names::{ArgumentNames, Direction, KeyRewriter};
pub use cache::SchemaCache;
pub use mfjs::{Level, violation};
pub use problem::Problem;
pub use validate::problem;
pub use wire_tool::WireTool;
