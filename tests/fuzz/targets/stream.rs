//! Bytes of a stream → deltas → blocks, in both dialects.

use std::sync::Arc;

use kimi_code::chat::stream::message::Blocks;
use kimi_code::chat::stream::op_queue::{BlockKind, Op, OpQueue, OpWriter};
use kimi_code::chat::stream::tool_args::{FinalArguments, finalize};
use kimi_code::config::Dialect;
use kimi_code::models::Prices;
use serde_json::Value;
use serde_json::value::RawValue;

use super::mirror::Mirror;
use super::pieces::chunkings;
use super::replay::{outcome, read};

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
