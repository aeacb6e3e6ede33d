//! What a person gets to see, and what the final op says.

use std::sync::Arc;

use super::summary::cost;
use super::*;
use crate::chat::stream::op_queue::FrameQueue;

fn ops(deltas: Vec<Delta<'_>>) -> (Vec<Op>, Blocks) {
    let queue = Arc::new(FrameQueue::default());
    let mut frames = Frames::new(Arc::clone(&queue), Arc::new(|| true));
    let mut blocks = Blocks::new(Prices::default());
    for delta in deltas {
        blocks.apply(delta, &mut frames);
    }
    blocks.close_all(&mut frames);
    (queue.take(), blocks)
}

#[test]
fn a_suppressed_placeholder_leaves_no_gap_in_the_positions() {
    let (ops, blocks) = ops(vec![
        Delta::TextStart(0),
        Delta::Text(0, "(Empty response: {})"),
        Delta::End(0),
        Delta::TextStart(1),
        Delta::Text(1, "hi"),
    ]);
    assert_eq!(ops[0], Op::Start { index: 0, kind: BlockKind::Text, head: String::new() });
    assert_eq!(ops.len(), 3);
    assert_eq!(blocks.substance(), ContentState::Answer);
}

#[test]
fn a_second_attempt_does_not_show_its_reasoning_again() {
    let queue = Arc::new(FrameQueue::default());
    let mut frames = Frames::new(Arc::clone(&queue), Arc::new(|| true));
    let mut blocks = Blocks::new(Prices::default());
    let think = || Delta::ThinkingStart { slot: 0, signature: "reasoning_content".into(), redacted: false };
    blocks.apply(think(), &mut frames);
    blocks.apply(Delta::Thinking(0, "Hmm."), &mut frames);
    blocks.apply(Delta::End(0), &mut frames);
    assert_eq!(blocks.substance(), ContentState::ReasoningOnly);
    assert!(blocks.visible());
    queue.take();
    blocks.restart();
    blocks.apply(think(), &mut frames);
    blocks.apply(Delta::Thinking(0, "Hmm again."), &mut frames);
    assert_eq!((blocks.substance(), blocks.visible()), (ContentState::ReasoningOnly, false));
    blocks.apply(Delta::TextStart(1), &mut frames);
    blocks.apply(Delta::Text(1, "4"), &mut frames);
    blocks.close_all(&mut frames);
    let ops = queue.take();
    assert_eq!(ops[0], Op::Start { index: 1, kind: BlockKind::Text, head: String::new() });
    assert_eq!(ops.len(), 3);
}

/// Nothing that a person could see, so a failure right after it may still be retried (docs/protocol.md#chat-events).
#[test]
fn empty_reasoning_is_kept_before_the_text_but_is_not_visible() {
    let empty = || Delta::ThinkingStart { slot: 0, signature: "reasoning_content".into(), redacted: false };
    let (seen, blocks) = ops(vec![empty(), Delta::Thinking(0, "")]);
    assert_eq!((seen.len(), blocks.visible()), (0, false));
    let (seen, _) = ops(vec![empty(), Delta::Thinking(0, ""), Delta::TextStart(1), Delta::Text(1, "ok")]);
    assert!(matches!(seen[0], Op::Start { index: 0, kind: BlockKind::Thinking, .. }));
    assert!(matches!(seen[1], Op::Start { index: 1, kind: BlockKind::Text, .. }));
}

#[test]
fn calls_are_announced_under_an_id_that_is_new_and_a_name_that_pi_knows() {
    let queue = Arc::new(FrameQueue::default());
    let mut frames = Frames::new(Arc::clone(&queue), Arc::new(|| true));
    let mut blocks = Blocks::new(Prices::default());
    let mut known = RequestContext::default();
    known.calls.reserve("bash:0");
    known.names.insert("bash".to_owned(), "my bash".to_owned());
    blocks.know(known);
    for slot in 0..2 {
        blocks.apply(Delta::ToolStart { slot, id: "bash:0".into(), name: "bash" }, &mut frames);
    }
    let heads: Vec<String> = queue
        .take()
        .into_iter()
        .filter_map(|op| if let Op::Start { head, .. } = op { Some(head) } else { None })
        .collect();
    assert!(heads[0].contains("bash:0__2") && heads[1].contains("bash:0__3"), "{heads:?}");
    assert!(heads[0].contains("my bash"), "{heads:?}");
}

#[test]
fn cost_is_tokens_times_price() {
    let prices = Prices { input: 1.0, output: 10.0, cache_read: 0.1, cache_write: 0.0 };
    let usage =
        Usage { input: Some(1_000_000), output: Some(100_000), cache_read: Some(2_000_000), ..Usage::default() };
    assert!((cost(&prices, &usage)["total"].as_f64().unwrap() - 2.2).abs() < 1e-9);
}

#[test]
fn usable_arguments_are_told_from_unusable_ones() {
    let call = |slot, id: &str| Delta::ToolStart { slot, id: id.to_owned(), name: "t" };
    let (ops, _) =
        ops(vec![call(0, "a"), Delta::ToolArguments(0, "{\"x\":1}"), call(1, "b"), Delta::ToolArguments(1, "{\"x\":")]);
    let verdicts: Vec<&str> = ops
        .iter()
        .filter_map(|op| if let Op::End { verdict, .. } = op { Some(verdict.as_str()) } else { None })
        .collect();
    assert_eq!(verdicts[0], "");
    assert!(verdicts[1].contains("error"));
}
