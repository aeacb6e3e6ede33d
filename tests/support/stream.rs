//! Bytes of a stream → what the user sees, for the integration tests. No network, no clock: every step from the event decoder to
//! the queue that JavaScript drains.

use std::sync::Arc;

use kimi_code::chat::stream::message::Blocks;
use kimi_code::chat::stream::op_queue::{Op, OpQueue, OpWriter};
use kimi_code::chat::stream::sse::{Event, SseDecoder};
use kimi_code::chat::stream::stop_reason::StopReason;
use kimi_code::config::Dialect;
use kimi_code::error::Result;
use kimi_code::models::Prices;

/// Returns the outcome as lines: one per block event, neighboring chunks joined, then how it ended and its usage.
pub fn outcome(dialect: Dialect, chunks: &[&[u8]]) -> Vec<String> {
    let queue = Arc::new(OpQueue::default());
    let mut ops = OpWriter::new(Arc::clone(&queue), Arc::new(|| true), Arc::default());
    let mut blocks = Blocks::new(Prices::default());
    let ended = read(dialect, chunks, &mut blocks, &mut ops);
    blocks.close_all(&mut ops);
    let mut lines: Vec<String> = queue.take().into_iter().map(line).collect();
    let reason = ended.as_ref().ok().map(|(reason, _)| *reason);
    let usage = blocks.summary(reason, "", "")["usage"].clone();
    let counts = ["input", "output", "cacheRead", "cacheWrite", "totalTokens"].map(|name| usage[name].to_string());
    lines.push(match ended {
        Ok((reason, raw)) => format!("done {reason:?} ({raw})"),
        Err(error) => format!("failed {}: {}", error.kind.code(), error.message),
    });
    lines.push(format!("usage {}", counts.join(" ")));
    lines
}

/// Reads one answer into `blocks`; returns why it ended, in our terms and in the service's.
pub fn read(
    dialect: Dialect,
    chunks: &[&[u8]],
    blocks: &mut Blocks,
    ops: &mut OpWriter,
) -> Result<(StopReason, String)> {
    let mut sse = SseDecoder::default();
    let mut decoder = dialect.decoder();
    let mut over = false;
    {
        let mut on_event = |event: Event<'_>| {
            if let Event::Data { name, data } = event
                && !over
            {
                over = decoder.event(name, data, &mut |delta| blocks.apply(delta, ops))?;
            }
            Ok(())
        };
        for chunk in chunks {
            sse.feed(chunk, &mut on_event)?;
        }
        sse.finish(&mut on_event)?;
    }
    decoder.finish(blocks.visible(), &mut |delta| blocks.apply(delta, ops))
}

/// Returns an op as a line.
pub fn line(op: Op) -> String {
    match op {
        Op::Start { index, kind, head } => {
            format!("{index} start {kind:?} {}", without_made_id(&head)).trim().to_owned()
        }
        Op::Delta { index, text, .. } => format!("{index} + {text}"),
        Op::ToolDelta { index, text, changes } => format!("{index} + {text} => {}", changes.into_text()),
        Op::Amend { index, members } => format!("{index} amend {members}"),
        Op::End { index, verdict, .. } => format!("{index} end {verdict}").trim().to_owned(),
        other => format!("{other:?}"),
    }
}

/// Generated ids are random.
fn without_made_id(head: &str) -> String {
    match head.find("\"call_").filter(|at| head[at + 6..].bytes().take(16).all(|byte| byte.is_ascii_hexdigit())) {
        Some(at) => format!("{}\"call_*{}", &head[..at], &head[at + 22..]),
        None => head.to_owned(),
    }
}
