//! Bytes of a stream → events → blocks, and argument text → changes. The yardstick is the time serde_json takes to read the same
//! JSON; sonic-rs and simd-json stand beside it: `npm run bench:rust`.

#[path = "../support/yardstick.rs"]
mod yardstick;

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use kimi_code::chat::stream::message::Blocks;
use kimi_code::chat::stream::op_queue::{OpQueue, OpWriter};
use kimi_code::chat::stream::sse::{Event, SseDecoder};
use kimi_code::chat::stream::tool_args::{Changes, ToolArgs};
use kimi_code::config::Dialect;
use kimi_code::models::Prices;
use serde::de::IgnoredAny;
use serde_json::json;
use yardstick::{beside, beside_all};

/// Chunk size of a typical socket read.
const CHUNK: usize = 16 << 10;

const EVENTS: usize = 20_000;

/// An answer of many small text deltas: the JSON of its events, and the bytes of the stream.
fn stream(dialect: Dialect) -> (Vec<String>, Vec<u8>) {
    let piece = |number: usize| ["The ", "quick brown ", "fox — ", "jumps\n", "世界 "][number % 5];
    let event = |number: usize| match dialect {
        Dialect::OpenAi => {
            json!({ "id": "chatcmpl-6970b5d02fa474c1767e8767", "object": "chat.completion.chunk", "created": 1_768_994_256,
            "model": "k3", "choices": [{ "index": 0, "delta": { "content": piece(number) }, "finish_reason": null }] })
        }
        Dialect::Anthropic => json!({ "type": "content_block_delta", "index": 0,
            "delta": { "type": "text_delta", "text": piece(number) } }),
    };
    let events: Vec<String> = (0..EVENTS).map(|number| event(number).to_string()).collect();
    let bytes = events.iter().map(|event| format!("data: {event}\n\n")).collect::<String>().into_bytes();
    (events, bytes)
}

fn read_events(events: &[String]) {
    for event in events {
        black_box(serde_json::from_str::<IgnoredAny>(black_box(event)).is_ok());
    }
}

/// The same with other readers. simd-json writes into its input, so each event is copied.
fn read_with_sonic(events: &[String]) {
    for event in events {
        black_box(sonic_rs::from_str::<IgnoredAny>(black_box(event)).is_ok());
    }
}

fn read_with_simd_json(events: &[String], copy: &mut Vec<u8>) {
    for event in events {
        copy.clear();
        copy.extend_from_slice(black_box(event).as_bytes());
        black_box(simd_json::serde::from_slice::<IgnoredAny>(copy).is_ok());
    }
}

fn sse(bytes: &[u8]) -> usize {
    let mut decoder = SseDecoder::default();
    let mut seen = 0;
    for chunk in bytes.chunks(CHUNK) {
        let fed = decoder.feed(chunk, &mut |event| {
            seen += usize::from(matches!(event, Event::Data { .. }));
            Ok(())
        });
        assert!(fed.is_ok());
    }
    seen
}

fn answer(dialect: Dialect, bytes: &[u8]) -> usize {
    let queue = Arc::new(OpQueue::default());
    let mut ops = OpWriter::new(Arc::clone(&queue), Arc::new(|| true), Arc::default());
    let mut blocks = Blocks::new(Prices::default());
    let (mut sse, mut decoder) = (SseDecoder::default(), dialect.decoder());
    for chunk in bytes.chunks(CHUNK) {
        let fed = sse.feed(chunk, &mut |event| match event {
            Event::Data { name, data } => {
                decoder.event(name, data, &mut |delta| blocks.apply(delta, &mut ops)).map(drop)
            }
            Event::Comment => Ok(()),
        });
        assert!(fed.is_ok());
    }
    queue.take().len()
}

/// A file written by a model, as the arguments of one call.
fn arguments() -> String {
    let line = "fn main() { println!(\"grüße, 世界\"); }\n\t// and so on, line by line\n";
    json!({ "path": "src/main.rs", "content": line.repeat(3000), "edits": vec![json!({ "from": 1, "to": [2.5, true] }); 200] })
        .to_string()
}

fn follow(pieces: &[&str]) -> usize {
    let mut reader = ToolArgs::default();
    let mut changes = Changes::default();
    for piece in pieces {
        reader.append(piece, &mut changes);
    }
    changes.into_text().len()
}

/// Four characters each.
fn pieces(text: &str) -> Vec<&str> {
    let ends: Vec<usize> = text.char_indices().map(|(at, _)| at).step_by(4).skip(1).chain([text.len()]).collect();
    let starts = std::iter::once(0).chain(ends.iter().copied());
    starts.zip(&ends).map(|(start, end)| &text[start..*end]).collect()
}

fn bench(c: &mut Criterion) {
    for (name, dialect) in [("chat", Dialect::OpenAi), ("messages", Dialect::Anthropic)] {
        let (events, bytes) = stream(dialect);
        let size = bytes.len() as u64;
        if dialect == Dialect::OpenAi {
            beside(c, "events", size, || sse(black_box(&bytes)), || read_events(&events));
        }
        let mut copy = Vec::new();
        let (mut serde, mut sonic) = (|| read_events(&events), || read_with_sonic(&events));
        let mut simd = || read_with_simd_json(&events, &mut copy);
        beside_all(
            c,
            &format!("answer, {name}"),
            size,
            || answer(dialect, black_box(&bytes)),
            &mut [("yardstick", &mut serde), ("sonic-rs", &mut sonic), ("simd-json", &mut simd)],
        );
    }
    let text = arguments();
    let pieces = pieces(&text);
    let events = [text.clone()];
    let mut copy = Vec::new();
    let (mut serde, mut sonic) = (|| read_events(&events), || read_with_sonic(&events));
    let mut simd = || read_with_simd_json(&events, &mut copy);
    beside_all(
        c,
        "arguments",
        text.len() as u64,
        || follow(black_box(&pieces)),
        &mut [("yardstick", &mut serde), ("sonic-rs", &mut sonic), ("simd-json", &mut simd)],
    );
}

criterion_group!(benches, bench);
criterion_main!(benches);
