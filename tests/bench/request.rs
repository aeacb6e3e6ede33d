//! Transcript → body bytes, against the numbers of docs/architecture.md: 1 MB in 400 messages with 60 tools in 12 ms, the
//! tools of a second turn in 0.1 ms (the difference between "60 tools, seen before" and "no tools").

#[path = "../support/transcript.rs"]
mod transcript;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use kimi_code::chat::body::BodyOptions;
use kimi_code::chat::dialect::Dialect;
use kimi_code::chat::repair::{Target, repair};
use kimi_code::chat::thinking::Thinking;
use kimi_code::chat::tool_schema::forget;
use kimi_code::chat::transcript::Transcript;
use kimi_code::chat::wire::without_lone_surrogates;

fn options() -> BodyOptions {
    BodyOptions {
        model: "k3".to_owned(),
        thinking: Some(Thinking { kind: "enabled", effort: Some("high".to_owned()), keep: Some("all".to_owned()) }),
        max_completion_tokens: 100_000,
        prompt_cache_key: Some("session".to_owned()),
        ..BodyOptions::default()
    }
}

fn body(context: &str, dialect: Dialect, options: &BodyOptions) -> usize {
    let clean = without_lone_surrogates(context, "");
    let target = Target { images: true, videos: true, late_tools: false, anthropic: dialect == Dialect::Anthropic };
    Transcript::parse(clean.as_deref().unwrap_or(context), &[])
        .map(|transcript| repair(transcript, target))
        .ok()
        .and_then(|conversation| dialect.encode(&conversation, options).ok())
        .map_or(0, |body| body.len())
}

fn bench(c: &mut Criterion) {
    let options = options();
    let long = transcript::context(1 << 20, 400, 60);
    let tools = transcript::context(0, 0, 60);
    let no_tools = transcript::context(0, 0, 0);
    for (name, dialect) in [("chat", Dialect::OpenAi), ("messages", Dialect::Anthropic)] {
        c.bench_function(&format!("{name}: 1 MB, 400 messages, 60 tools"), |b| {
            b.iter(|| body(black_box(&long), dialect, &options));
        });
    }
    c.bench_function("no tools", |b| b.iter(|| body(black_box(&no_tools), Dialect::OpenAi, &options)));
    c.bench_function("60 tools, seen before", |b| b.iter(|| body(black_box(&tools), Dialect::OpenAi, &options)));
    c.bench_function("60 tools, new", |b| {
        b.iter(|| {
            forget();
            body(black_box(&tools), Dialect::OpenAi, &options)
        });
    });
}

criterion_group!(benches, bench);
criterion_main!(benches);
