//! Bytes of a stream → deltas → blocks, in both dialects.

use std::sync::Arc;

use kimi_code::chat::stream::message::Blocks;
use kimi_code::chat::stream::op_queue::{BlockKind, Op, OpQueue, OpWriter};
use kimi_code::chat::stream::sse::{Event, SseDecoder};
use kimi_code::chat::stream::tool_args::{FinalArguments, finalize};
use kimi_code::config::Dialect;
use kimi_code::models::Prices;
use serde_json::Value;
use serde_json::value::RawValue;

use super::mirror::Mirror;
use super::pieces::chunkings;
use super::replay::{self, outcome, read};

/// Streams of `/v1/chat/completions`.
pub fn openai(data: &[u8]) {
    stream(Dialect::OpenAi, data);
}

/// Streams of `/v1/messages`.
pub fn anthropic(data: &[u8]) {
    stream(Dialect::Anthropic, data);
}

fn stream(dialect: Dialect, data: &[u8]) {
    let whole = outcome(dialect, &[data]);
    for chunks in chunkings(data) {
        assert_eq!(outcome(dialect, &chunks), whole, "{} pieces", chunks.len());
    }
    twice(dialect, data);
    without_templates(dialect, data);
}

/// Events read by their template and by the parser alone give the same answer. A blank before an event keeps it from the template.
fn without_templates(dialect: Dialect, data: &[u8]) {
    let mut events = Vec::new();
    let mut sse = SseDecoder::default();
    let mut collect = |event: Event<'_>| {
        if let Event::Data { name, data } = event {
            events.push((name.to_owned(), data.to_vec()));
        }
        Ok(())
    };
    if sse.feed(data, &mut collect).and_then(|()| sse.finish(&mut collect)).is_err() {
        return;
    }
    assert_eq!(answer(dialect, &events, b""), answer(dialect, &events, b" "));
}

/// The operations of an answer and how it ended, with this before the data of each event.
fn answer(dialect: Dialect, events: &[(String, Vec<u8>)], before: &[u8]) -> String {
    let queue = Arc::new(OpQueue::default());
    let mut ops = OpWriter::new(Arc::clone(&queue), Arc::new(|| true), Arc::default());
    let mut blocks = Blocks::new(Prices::default());
    let mut decoder = dialect.decoder();
    let mut over = Ok(false);
    for (name, data) in events {
        let data = [before, data.as_slice()].concat();
        over = decoder.event(name, &data, &mut |delta| blocks.apply(delta, &mut ops));
        if !matches!(over, Ok(false)) {
            break;
        }
    }
    let ended = over.and_then(|_| decoder.finish(blocks.visible(), &mut |delta| blocks.apply(delta, &mut ops)));
    blocks.close_all(&mut ops);
    let lines: Vec<String> = queue.take().into_iter().map(replay::line).collect();
    format!("{lines:#?} {ended:?} {:?}", blocks.summary(None, "", ""))
}

/// An answer and a second attempt: the operations sent to JavaScript are consistent, and the totals serialize as JSON.
fn twice(dialect: Dialect, data: &[u8]) {
    let queue = Arc::new(OpQueue::default());
    let mut ops = OpWriter::new(Arc::clone(&queue), Arc::new(|| true), Arc::default());
    let mut blocks = Blocks::new(Prices { input: 1.0, output: 1.0, cache_read: 1.0, cache_write: 1.0 });
    let mut answer = Answer::default();
    for attempt in 0..2 {
        let ended = read(dialect, &[data], &mut blocks, &mut ops);
        blocks.close_all(&mut ops);
        queue.take().into_iter().for_each(|op| answer.apply(op));
        assert!(answer.blocks.iter().all(|block| !block.open), "attempt {attempt} leaves a block open");
        let summary = blocks.summary(ended.as_ref().ok().map(|(reason, _)| *reason), "", "");
        assert!(summary["usage"]["cost"]["total"].is_number(), "{summary}");
        blocks.restart();
    }
}

/// The content array as JavaScript builds it.
#[derive(Default)]
struct Answer {
    blocks: Vec<Block>,
}

struct Block {
    kind: BlockKind,
    open: bool,
    text: String,
    arguments: Mirror,
}

impl Answer {
    fn apply(&mut self, op: Op) {
        match op {
            Op::Start { index, kind, head } => {
                assert_eq!(index, self.blocks.len(), "positions have no gaps and no order of their own");
                assert!(head.is_empty() || serde_json::from_str::<Value>(&head).is_ok_and(|head| head.is_object()));
                self.blocks.push(Block { kind, open: true, text: String::new(), arguments: Mirror::default() });
            }
            Op::Delta { index, kind, text } => {
                let block = self.growing(index, kind);
                assert!(!text.is_empty());
                block.text.push_str(&text);
            }
            Op::ToolDelta { index, text, changes } => {
                let block = self.growing(index, BlockKind::Tool);
                block.text.push_str(&text);
                block.arguments.apply(&changes.into_text());
            }
            Op::Amend { index, members } => {
                assert!(index < self.blocks.len());
                assert!(serde_json::from_str::<Value>(&members).is_ok_and(|members| members.is_object()));
            }
            Op::End { index, kind, verdict } => {
                let block = self.growing(index, kind);
                block.open = false;
                if kind == BlockKind::Tool {
                    judge(block, &verdict);
                } else {
                    assert_eq!(verdict, "");
                }
            }
            other => panic!("{other:?} has no place in an answer"),
        }
    }

    fn growing(&mut self, index: usize, kind: BlockKind) -> &mut Block {
        let block = self.blocks.get_mut(index).expect("a block that began");
        assert!(block.open && block.kind == kind, "block {index} is over, or another kind");
        block
    }
}

/// The operations for a call's arguments are correct, and the preview matches the result.
fn judge(block: &Block, verdict: &str) {
    if verdict.is_empty() {
        assert!(serde_json::from_str::<&RawValue>(&block.text).is_ok_and(|json| json.get().starts_with('{')));
        // serde_json is stricter than JavaScript about lone surrogates and huge numbers.
        if let Ok(value) = serde_json::from_str::<Value>(&block.text) {
            assert_eq!(block.arguments.value(), value);
        }
        return;
    }
    let verdict: Value = serde_json::from_str(verdict).expect("a verdict is JSON");
    match verdict["text"].as_str() {
        Some(text) => assert_eq!(finalize(text), FinalArguments::AsIs),
        None => assert!(verdict["error"].as_str().is_some_and(|error| !error.is_empty())),
    }
}
