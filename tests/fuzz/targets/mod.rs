//! What is fuzzed, and what has to hold for every input. Each target is a function of bytes that panics where a promise is
//! broken; libFuzzer looks for such bytes (`npm run fuzz`), and `tests/fuzz/corpus.rs` runs the corpus with every `cargo test`.

mod catalog;
mod config;
mod credentials;
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
pub use index::index;
pub use placeholder::placeholder;
pub use schema::tool_schema;
pub use sse::sse;
pub use stream::{anthropic, openai};
pub use tool_args::tool_args;
pub use transcript::transcript;
pub use usage::usage;

/// A target: what it is called, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// All of them, named like the folder of their corpus.
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
    ("index", index),
];
