//! Transcript → body bytes. Goals: 12 ms for 1 MB in 400 messages with 60 tools; 0.1 ms for the tools of a second turn (the
//! difference between "60 tools, seen before" and "no tools"). The yardstick is the time serde_json takes to read the same
//! context: `npm run bench:rust`.

#[path = "../support/transcript.rs"]
mod transcript;
#[path = "../support/yardstick.rs"]
mod yardstick;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use kimi_code::chat::prompt_cache::chain::Chain;
use kimi_code::chat::request::body::BodyOptions;
use kimi_code::chat::request::normalize::{Target, normalize};
use kimi_code::chat::request::thinking::Thinking;
use kimi_code::chat::request::tool_schema::SchemaCache;
use kimi_code::chat::request::transcript::Transcript;
use kimi_code::config::Dialect;
use kimi_code::json::surrogates::without_lone_surrogates;
use serde_json::Value;
use yardstick::beside;

fn options() -> BodyOptions {
    BodyOptions {
        model: "k3".to_owned(),
        thinking: Some(Thinking { kind: "enabled", effort: Some("high".to_owned()), keep: Some("all".to_owned()) }),
        max_completion_tokens: 100_000,
        prompt_cache_key: Some("session".to_owned()),
        ..BodyOptions::default()
    }
}

fn body(context: &str, dialect: Dialect, options: &BodyOptions, schemas: &SchemaCache) -> usize {
    bytes(context, dialect, options, schemas).len()
}

fn bytes(context: &str, dialect: Dialect, options: &BodyOptions, schemas: &SchemaCache) -> Vec<u8> {
    let clean = without_lone_surrogates(context);
    let target = Target { images: true, videos: true, late_tools: false, anthropic: dialect == Dialect::Anthropic };
    Transcript::parse(clean.as_deref().unwrap_or(context), &[])
        .map(|transcript| normalize(transcript, target, schemas))
        .ok()
        .and_then(|conversation| dialect.encode(&conversation, options).ok())
        .unwrap_or_default()
}

fn bench(c: &mut Criterion) {
    let options = options();
    let schemas = SchemaCache::default();
    let long = transcript::context(1 << 20, 400, 60);
    let tools = transcript::context(0, 0, 60);
    let no_tools = transcript::context(0, 0, 0);
    let read = |context: &str| serde_json::from_str::<Value>(black_box(context)).is_ok();
    for (name, dialect) in [("chat", Dialect::OpenAi), ("messages", Dialect::Anthropic)] {
        let encode = || body(black_box(&long), dialect, &options, &schemas);
        beside(c, &format!("body, {name}"), long.len() as u64, encode, || read(&long));
    }
    // The prompt cache's records of a session that goes on: its body is hashed, and only the last message is new.
    let seen = Chain::read(&bytes(&long, Dialect::OpenAi, &options, &schemas), &Chain::default(), 1);
    let mut grown = bytes(&long, Dialect::OpenAi, &options, &schemas);
    let end = grown.windows(2).rposition(|pair| pair == b"}]").map_or(0, |at| at + 1);
    grown.splice(end..end, *br#",{"role":"user","content":"And what does the next file say about this?"}"#);
    beside(
        c,
        "cache chain",
        grown.len() as u64,
        || Chain::read(black_box(&grown), &seen, 1).elements.len(),
        || read(&long),
    );
    let bare = no_tools.len() as u64;
    beside(c, "no tools", bare, || body(black_box(&no_tools), Dialect::OpenAi, &options, &schemas), || read(&no_tools));
    let size = tools.len() as u64;
    beside(
        c,
        "60 tools, seen before",
        size,
        || body(black_box(&tools), Dialect::OpenAi, &options, &schemas),
        || read(&tools),
    );
    let fresh = || body(black_box(&tools), Dialect::OpenAi, &options, &SchemaCache::default());
    beside(c, "60 tools, new", size, fresh, || read(&tools));
}

criterion_group!(benches, bench);
criterion_main!(benches);
