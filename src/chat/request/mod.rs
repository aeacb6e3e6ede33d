//! Builds the part of a request that both dialects share.

pub mod body;
pub mod normalize;
pub mod output_limit;
pub mod rejected;
pub mod response_format;
pub mod thinking;
pub mod tool_call_ids;
pub mod tool_choice;
pub mod tool_schema;
pub mod transcript;
