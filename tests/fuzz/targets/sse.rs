//! Bytes → events.

use kimi_code::chat::stream::sse::{Event, SseDecoder};

use super::pieces::chunkings;

/// Any chunking gives the same events without a panic.
pub fn sse(data: &[u8]) {
    let whole = events(&[data]);
    for chunks in chunkings(data) {
        assert_eq!(events(&chunks), whole, "{} pieces", chunks.len());
    }
}

/// Comments are events without data.
fn events(chunks: &[&[u8]]) -> Vec<Option<(String, Vec<u8>)>> {
    let mut decoder = SseDecoder::default();
    let mut seen = Vec::new();
    let mut collect = |event: Event<'_>| {
        seen.push(match event {
            Event::Data { name, data } => Some((name.to_owned(), data.to_vec())),
            Event::Comment => None,
        });
        Ok(())
    };
    for chunk in chunks {
        decoder.feed(chunk, &mut collect).expect("no event is too long");
    }
    decoder.finish(&mut collect).expect("no event is too long");
    seen
}
