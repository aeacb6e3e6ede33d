//! Which ops an answer leads to, and what the terminal op reports.

use std::sync::Arc;

use super::summary::cost;
use super::*;
use crate::chat::stream::op_queue::OpQueue;
use crate::chat::stream::tool_args::tests::mirror::Mirror;

fn ops(deltas: Vec<Delta<'_>>) -> (Vec<Op>, Blocks) {
    let queue = Arc::new(OpQueue::default());
    let mut writer = OpWriter::new(Arc::clone(&queue), Arc::new(|| true), Arc::default());
    let mut blocks = Blocks::new(Prices::default());
    for delta in deltas {
        blocks.apply(delta, &mut writer);
    }
    blocks.close_all(&mut writer);
    (queue.take(), blocks)
}

#[test]
fn answer_dropped_empty_response_text_leaves_no_gap_in_the_positions() {
    let (ops, blocks) = ops(vec![
        Delta::TextStart(0),
        Delta::Text(0, "(Empty response: {})"),
        Delta::End(0),
        Delta::TextStart(1),
        Delta::Text(1, "hi"),
    ]);
    assert_eq!(ops[0], Op::Start { index: 0, kind: BlockKind::Text, head: String::new() });
    assert_eq!(ops.len(), 3);
    assert_eq!(blocks.content_state(), ContentState::Answer);
}

#[test]
fn answer_second_attempt_does_not_show_its_reasoning_again() {
    let queue = Arc::new(OpQueue::default());
    let mut writer = OpWriter::new(Arc::clone(&queue), Arc::new(|| true), Arc::default());
    let mut blocks = Blocks::new(Prices::default());
    let think = || Delta::ThinkingStart { block: 0, signature: "reasoning_content".into(), redacted: false };
    blocks.apply(think(), &mut writer);
    blocks.apply(Delta::Thinking(0, "Hmm."), &mut writer);
    blocks.apply(Delta::End(0), &mut writer);
    assert_eq!(blocks.content_state(), ContentState::ReasoningOnly);
    assert!(blocks.visible());
    queue.take();
    blocks.restart();
    blocks.apply(think(), &mut writer);
    blocks.apply(Delta::Thinking(0, "Hmm again."), &mut writer);
    assert_eq!((blocks.content_state(), blocks.visible()), (ContentState::ReasoningOnly, false));
    blocks.apply(Delta::TextStart(1), &mut writer);
    blocks.apply(Delta::Text(1, "4"), &mut writer);
    blocks.close_all(&mut writer);
    let ops = queue.take();
    assert_eq!(ops[0], Op::Start { index: 1, kind: BlockKind::Text, head: String::new() });
    assert_eq!(ops.len(), 3);
}

/// A failure right after empty reasoning may still be retried (docs/protocol.md#chat-events).
#[test]
fn answer_empty_reasoning_is_kept_before_the_text_but_is_not_visible() {
    let empty = || Delta::ThinkingStart { block: 0, signature: "reasoning_content".into(), redacted: false };
    let (seen, blocks) = ops(vec![empty(), Delta::Thinking(0, "")]);
    assert_eq!((seen.len(), blocks.visible()), (0, false));
    let (seen, _) = ops(vec![empty(), Delta::Thinking(0, ""), Delta::TextStart(1), Delta::Text(1, "ok")]);
    assert!(matches!(seen[0], Op::Start { index: 0, kind: BlockKind::Thinking, .. }));
    assert!(matches!(seen[1], Op::Start { index: 1, kind: BlockKind::Text, .. }));
}

#[test]
fn answer_calls_get_a_new_id_and_the_name_that_pi_knows() {
    let queue = Arc::new(OpQueue::default());
    let mut writer = OpWriter::new(Arc::clone(&queue), Arc::new(|| true), Arc::default());
    let mut blocks = Blocks::new(Prices::default());
    let mut request = RequestContext::default();
    request.calls.reserve("bash:0");
    request.names.insert("bash".to_owned(), "my bash".to_owned());
    blocks.set_request(request);
    for block in 0..2 {
        blocks.apply(Delta::ToolStart { block, id: "bash:0".into(), name: "bash" }, &mut writer);
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
fn answer_cost_is_tokens_times_price() {
    let prices = Prices { input: 1.0, output: 10.0, cache_read: 0.1, cache_write: 0.0 };
    let usage = TokenUsage {
        input: Some(1_000_000),
        output: Some(100_000),
        cache_read: Some(2_000_000),
        ..TokenUsage::default()
    };
    assert!((cost(&prices, &usage)["total"].as_f64().unwrap() - 2.2).abs() < 1e-9);
}

#[test]
fn answer_unusable_arguments_end_with_an_error() {
    let call = |block, id: &str| Delta::ToolStart { block, id: id.to_owned(), name: "t" };
    let (ops, _) =
        ops(vec![call(0, "a"), Delta::ToolArguments(0, "{\"x\":1}"), call(1, "b"), Delta::ToolArguments(1, "{\"x\":")]);
    let verdicts: Vec<&str> = ops
        .iter()
        .filter_map(|op| if let Op::End { verdict, .. } = op { Some(verdict.as_str()) } else { None })
        .collect();
    assert_eq!(verdicts[0], "");
    assert!(verdicts[1].contains("error"));
}

#[test]
fn answer_renamed_arguments_have_their_own_names_wherever_their_text_is_split() {
    let schema = json!({ "properties": { "required_": { "type": "string" }, "text": { "type": "string" } } });
    let renamed = [("required_".to_owned(), "required".to_owned())].into_iter().collect();
    let names = Arc::new(ArgumentNames::new(&schema, &renamed));
    let wire = r#"{"required_":"\"required_\": \n, long enough","text":"é\ud83d\ude00 \ud83d"}"#;
    let own = json!({ "required": "\"required_\": \n, long enough", "text": "é😀 \u{fffd}" });
    for size in 1..wire.chars().count() {
        let queue = Arc::new(OpQueue::default());
        let mut writer = OpWriter::new(Arc::clone(&queue), Arc::new(|| true), Arc::default());
        let mut blocks = Blocks::new(Prices::default());
        let argument_names = [("t".to_owned(), Arc::clone(&names))].into_iter().collect();
        blocks.set_request(RequestContext { argument_names, ..RequestContext::default() });
        blocks.apply(Delta::ToolStart { block: 0, id: "a".into(), name: "t" }, &mut writer);
        let mut mirror = Mirror::default();
        let mut show = |queue: &OpQueue| {
            for op in queue.take() {
                if let Op::ToolDelta { changes, .. } = op {
                    mirror.apply(&changes.into_text());
                }
            }
        };
        for piece in wire.chars().collect::<Vec<_>>().chunks(size) {
            blocks.apply(Delta::ToolArguments(0, &piece.iter().collect::<String>()), &mut writer);
            show(&queue);
        }
        blocks.apply(Delta::End(0), &mut writer);
        show(&queue);
        assert_eq!(mirror.value(), own, "{size}");
    }
}
