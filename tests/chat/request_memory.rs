//! Building a body uses at most three times the size of the transcript, the transcript and the body included.

#[path = "../support/transcript.rs"]
mod transcript;

use kimi_code::chat::request::body::BodyOptions;
use kimi_code::chat::request::normalize::{Target, normalize};
use kimi_code::chat::request::tool_schema::SchemaCache;
use kimi_code::chat::request::transcript::Transcript;
use kimi_code::config::Dialect;
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

#[test]
fn building_a_body_takes_at_most_three_times_the_transcript() {
    for dialect in [Dialect::OpenAi, Dialect::Anthropic] {
        let before = MEMORY.current_usage();
        let context = transcript::context(4 << 20, 400, 60);
        MEMORY.reset_peak_usage();
        let target = Target { images: true, videos: true, late_tools: false, anthropic: dialect == Dialect::Anthropic };
        let conversation = normalize(Transcript::parse(&context, &[]).unwrap(), target, &SchemaCache::default());
        let body = dialect.encode(&conversation, &BodyOptions::default()).unwrap();
        assert!(body.len() > 3 << 20);
        let times = (MEMORY.peak_usage() - before) as f64 / context.len() as f64;
        assert!(times <= 3.0, "{dialect:?}: {times:.2} times");
    }
}
