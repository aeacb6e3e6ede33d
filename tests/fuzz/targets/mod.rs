//! The fuzz targets and their properties. Each target is a function of bytes that panics when a property is violated; libFuzzer
//! searches for such bytes (`npm run fuzz`), and `tests/fuzz/corpus.rs` runs the corpus with every `cargo test`.

mod catalog;
mod config;
mod credentials;
mod errors;
mod index;
mod pieces;
mod placeholder;
mod schema;
mod sse;
mod stream;
mod tool_args;
mod transcript;
mod usage;

#[path = "../../support/acceptable.rs"]
mod acceptable;
#[path = "../../support/conversation.rs"]
mod conversation;
#[path = "../../support/mirror.rs"]
mod mirror;
#[path = "../../support/stream.rs"]
mod replay;

pub use catalog::catalog;
pub use config::config;
pub use credentials::credentials;
pub use errors::errors;
pub use index::index;
pub use placeholder::placeholder;
pub use schema::tool_schema;
pub use sse::sse;
pub use stream::{anthropic, openai};
pub use tool_args::tool_args;
pub use transcript::transcript;
pub use usage::usage;

/// A target: its name and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All targets, named like the folders of their corpora.
pub const ALL: &[Target] = &[
    ("sse", sse),
    ("openai", openai),
    ("anthropic", anthropic),
    ("tool_args", tool_args),
    ("placeholder", placeholder),
    ("transcript", transcript),
    ("tool_schema", tool_schema),
    ("config", config),
    ("catalog", catalog),
    ("usage", usage),
    ("credentials", credentials),
    ("errors", errors),
    ("index", index),
];
