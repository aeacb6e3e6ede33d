//! Collects the operations for JavaScript and hands them over at display rate.
//!
//! A terminal shows at most sixty frames a second, and Pi lays its Markdown out anew for each event
//! (docs/pi-contract.md#cost-per-event), so one crossing per token would be waste. The first content is handed over at once; after
//! that, what arrives is merged and handed over at the pace of a [`FrameClock`], which all streams of a consumer share. Merging goes on
//! while JavaScript is busy, so a slow consumer costs memory for text only; beyond [`HIGH_WATER`] the socket is not read until
//! JavaScript has caught up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::frame_clock::{FrameClock, now};
use super::tool_args::{Changes, ToolArgs};
use crate::error::Error;

/// Bytes that may wait for JavaScript before reading stops.
const HIGH_WATER: usize = 1 << 20;

/// Bytes of arguments that are read while the queue is locked, because JavaScript waits for that lock.
const LONGEST_READ: usize = 64 << 10;

/// Separates raw events. JSON cannot contain it.
const RAW_SEPARATOR: char = '\u{1e}';

/// Size that an op without text counts with, in bytes.
const OP_SIZE: usize = 64;

/// Kind of a content block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockKind {
    /// Visible text.
    Text,
    /// Reasoning.
    Thinking,
    /// Tool call.
    Tool,
}

/// One instruction to JavaScript. `index` is the position in the message's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// The finished body as JSON text, for the payload hook; the turn waits for the body to send.
    Body(String),
    /// The response head: `{status, headers}`.
    Response(String),
    /// Progress to show while the user waits.
    Notice(String),
    /// The content of the media item at this position is needed.
    Media {
        /// Position among the media items of the turn.
        index: usize,
        /// First character that is needed.
        from: usize,
        /// The one behind the last.
        to: usize,
    },
    /// The raw JSON of service events, separated by [`RAW_SEPARATOR`], for callers that asked for it.
    Raw(String),
    /// A block begins; `head` is JSON with what is final from the start.
    Start {
        /// Position in the content.
        index: usize,
        /// Kind of the block.
        kind: BlockKind,
        /// Empty for text, `{signature, redacted?}` or `{id, name}`.
        head: String,
    },
    /// Text or reasoning to append.
    Delta {
        /// Position in the content.
        index: usize,
        /// Text or Thinking.
        kind: BlockKind,
        /// What to append.
        text: String,
    },
    /// Argument text, and what it changed in the value (see `tool_args`).
    ToolDelta {
        /// Position in the content.
        index: usize,
        /// Raw argument text.
        text: String,
        /// What the text changed in the value.
        changes: Changes,
    },
    /// Members to merge into a block that already began.
    Amend {
        /// Position in the content.
        index: usize,
        /// JSON object.
        members: String,
    },
    /// A block is complete.
    End {
        /// Position in the content.
        index: usize,
        /// Kind of the block.
        kind: BlockKind,
        /// Tools only: `""` if the argument text is valid as received, else JSON `{text}` or `{error}`.
        verdict: String,
    },
    /// The answer is complete (JSON). Terminal.
    Done(String),
    /// The turn failed. Terminal.
    Failed {
        /// Why, in the words for Pi.
        error: Box<Error>,
        /// JSON object with what is known about the answer so far.
        summary: Value,
    },
}

macro_rules! op_codes {
    ($($name:ident = $code:literal,)+) => {
        /// Code of an op at the boundary.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the names are those of the ops")]
        #[repr(u32)]
        pub enum OpCode { $($name = $code,)+ }

        impl OpCode {
            /// All codes by name. JavaScript keeps the same table, and a test compares the two.
            pub const ALL: &[(&str, u32)] = &[$((stringify!($name), $code),)+];
        }
    };
}

op_codes! {
    Body = 0,
    Response = 1,
    Notice = 2,
    Raw = 3,
    Media = 4,
    TextStart = 10,
    ThinkingStart = 11,
    ToolStart = 12,
    TextDelta = 20,
    ThinkingDelta = 21,
    ToolDelta = 22,
    TextEnd = 30,
    ThinkingEnd = 31,
    ToolEnd = 32,
    Amend = 40,
    Done = 100,
    Failed = 101,
}

impl Op {
    /// Returns the code that JavaScript knows this op by.
    pub fn code(&self) -> OpCode {
        use BlockKind::{Text, Thinking, Tool};
        match self {
            Self::Body(_) => OpCode::Body,
            Self::Response(_) => OpCode::Response,
            Self::Notice(_) => OpCode::Notice,
            Self::Raw(_) => OpCode::Raw,
            Self::Media { .. } => OpCode::Media,
            Self::Start { kind: Text, .. } => OpCode::TextStart,
            Self::Start { kind: Thinking, .. } => OpCode::ThinkingStart,
            Self::Start { kind: Tool, .. } => OpCode::ToolStart,
            Self::Delta { kind: Thinking, .. } => OpCode::ThinkingDelta,
            Self::Delta { .. } => OpCode::TextDelta,
            Self::ToolDelta { .. } => OpCode::ToolDelta,
            Self::End { kind: Text, .. } => OpCode::TextEnd,
            Self::End { kind: Thinking, .. } => OpCode::ThinkingEnd,
            Self::End { kind: Tool, .. } => OpCode::ToolEnd,
            Self::Amend { .. } => OpCode::Amend,
            Self::Done(_) => OpCode::Done,
            Self::Failed { .. } => OpCode::Failed,
        }
    }

    /// Whether the op changes the content of the answer.
    fn is_content(&self) -> bool {
        matches!(
            self,
            Self::Start { .. } | Self::Delta { .. } | Self::ToolDelta { .. } | Self::Amend { .. } | Self::End { .. }
        )
    }

    fn size(&self) -> usize {
        OP_SIZE
            + match self {
                Self::Body(text) | Self::Response(text) | Self::Notice(text) | Self::Raw(text) => text.len(),
                Self::Start { head: text, .. } | Self::Amend { members: text, .. } => text.len(),
                Self::Delta { text, .. } | Self::End { verdict: text, .. } => text.len(),
                Self::ToolDelta { text, changes, .. } => text.len() + changes.len(),
                Self::Media { .. } | Self::Done(_) | Self::Failed { .. } => 0,
            }
    }
}

#[derive(Debug, Default)]
struct Waiting {
    ops: Vec<Op>,
    bytes: usize,
    /// Position of the last raw op, if nothing but content follows it.
    raw: Option<usize>,
}

/// Ops that wait for JavaScript; shared between the turn's task and the JavaScript thread.
#[derive(Debug, Default)]
pub struct OpQueue {
    waiting: Mutex<Waiting>,
    /// The consumer takes nothing for the moment.
    paused: AtomicBool,
    drained: Notify,
}

impl OpQueue {
    /// Takes all waiting ops; none while the consumer has paused. Called on the JavaScript thread.
    pub fn take(&self) -> Vec<Op> {
        if self.paused.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let ops = {
            let mut waiting = self.lock();
            std::mem::take(&mut *waiting).ops
        };
        self.drained.notify_one();
        ops
    }

    /// Stops or resumes handing ops over. What waits is bounded, because the socket is not read meanwhile.
    pub fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
    }

    /// Whether reading waits for the consumer.
    pub fn is_full(&self) -> bool {
        self.lock().bytes > HIGH_WATER
    }

    fn push(&self, op: Op) {
        let mut waiting = self.lock();
        waiting.bytes += op.size();
        if !op.is_content() {
            waiting.raw = matches!(op, Op::Raw(_)).then_some(waiting.ops.len());
        }
        waiting.ops.push(op);
    }

    /// Adds a raw event to those that are waiting, ahead of the content after them, so that content is merged all the same.
    fn append_raw(&self, event: &str) {
        let mut waiting = self.lock();
        let position = waiting.raw;
        if let Some(Op::Raw(text)) = position.and_then(|position| waiting.ops.get_mut(position)) {
            text.push(RAW_SEPARATOR);
            text.push_str(event);
            waiting.bytes += event.len();
        } else {
            drop(waiting);
            self.push(Op::Raw(event.to_owned()));
        }
    }

    /// Appends to the last op where that is of the same block, so that a slow consumer costs memory for text only.
    fn append(&self, at: usize, kind: BlockKind, more: &str) {
        let mut waiting = self.lock();
        waiting.bytes += more.len();
        match waiting.ops.last_mut() {
            Some(Op::Delta { index, text, .. }) if *index == at => text.push_str(more),
            _ => {
                waiting.bytes += OP_SIZE;
                waiting.ops.push(Op::Delta { index: at, kind, text: more.to_owned() });
            }
        }
    }

    fn append_arguments(&self, at: usize, reader: &mut ToolArgs, more: &str) {
        let mut waiting = self.lock();
        if !matches!(waiting.ops.last(), Some(Op::ToolDelta { index, .. }) if *index == at) {
            waiting.bytes += OP_SIZE;
            waiting.ops.push(Op::ToolDelta { index: at, text: String::new(), changes: Changes::default() });
        }
        let Some(Op::ToolDelta { text, changes, .. }) = waiting.ops.last_mut() else { return };
        let before = changes.len();
        text.push_str(more);
        reader.append(more, changes);
        let grown = more.len() + changes.len() - before;
        waiting.bytes += grown;
    }

    /// Locks the queue. It holds plain data and every update leaves it whole, so a poisoned lock is still usable.
    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells JavaScript that ops are waiting; false once the consumer is gone.
pub type WakeFn = Arc<dyn Fn() -> bool + Send + Sync>;

/// How JavaScript keeps up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// It does.
    Ready,
    /// It had fallen behind, and reading waited for it.
    CaughtUp,
    /// The consumer is gone.
    Gone,
}

/// Writing end of a queue: collects ops and decides when JavaScript is woken.
pub struct OpWriter {
    queue: Arc<OpQueue>,
    wake: WakeFn,
    clock: Arc<FrameClock>,
    /// Content was handed over before; the first one does not wait.
    shown: bool,
    /// There is something to hand over, and whether a block ends in it.
    dirty: bool,
    ends_block: bool,
    alive: bool,
}

impl OpWriter {
    /// Makes a writing end for `queue`.
    pub fn new(queue: Arc<OpQueue>, wake: WakeFn, clock: Arc<FrameClock>) -> Self {
        Self { queue, wake, clock, shown: false, dirty: false, ends_block: false, alive: true }
    }

    /// Makes a second writing end for the same queue, for the terminal op of a turn that panicked.
    pub fn spare(&self) -> Self {
        Self::new(Arc::clone(&self.queue), Arc::clone(&self.wake), Arc::clone(&self.clock))
    }

    /// Adds an op to the current frame.
    pub fn push(&mut self, op: Op) {
        self.ends_block |= matches!(op, Op::End { .. });
        self.queue.push(op);
        self.dirty = true;
    }

    /// Adds a raw event of the service to the current frame.
    pub fn append_raw(&mut self, event: &str) {
        self.queue.append_raw(event);
        self.dirty = true;
    }

    /// Adds text or reasoning to the current frame.
    pub fn append(&mut self, index: usize, kind: BlockKind, text: &str) {
        self.queue.append(index, kind, text);
        self.dirty = true;
    }

    /// Adds argument text, and what it changes in the value, to the current frame.
    pub fn append_arguments(&mut self, index: usize, reader: &mut ToolArgs, text: &str) {
        let mut rest = text;
        while !rest.is_empty() {
            let mut end = rest.len().min(LONGEST_READ);
            while !rest.is_char_boundary(end) {
                end -= 1;
            }
            let (part, more) = rest.split_at(end);
            self.queue.append_arguments(index, reader, part);
            rest = more;
        }
        self.dirty = true;
    }

    /// Hands the frame over unless one was handed over during the last interval. To be called after each batch of pushes.
    pub fn flush_if_due(&mut self) {
        if !self.shown || self.clock.due(self.ends_block).is_none_or(|due| now() >= due) {
            self.flush();
        }
    }

    /// Returns when the current frame is due; `None` if it is empty.
    pub fn due(&self) -> Option<Instant> {
        if self.dirty { self.clock.due(self.ends_block) } else { None }
    }

    /// Hands the frame over now.
    pub fn flush(&mut self) {
        if std::mem::take(&mut self.dirty) {
            self.shown = true;
            self.ends_block = false;
            self.clock.handed_over(now());
            self.alive = (self.wake)();
        }
    }

    /// Adds an op and hands it over now. Does not affect frame pacing.
    pub fn send(&mut self, op: Op) {
        self.queue.push(op);
        self.dirty = false;
        self.alive = (self.wake)();
    }

    /// Waits while JavaScript is far behind.
    pub async fn ready(&mut self) -> Readiness {
        let mut waited = false;
        while self.alive && self.queue.is_full() {
            waited = true;
            self.flush();
            // The limit covers a consumer that went away with a frame still waiting.
            let _ = tokio::time::timeout(Duration::from_secs(1), self.queue.drained.notified()).await;
            self.alive = (self.wake)();
        }
        match (self.alive, waited) {
            (false, _) => Readiness::Gone,
            (true, true) => Readiness::CaughtUp,
            (true, false) => Readiness::Ready,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn text(text: &str) -> Op {
        Op::Delta { index: 0, kind: BlockKind::Text, text: text.to_owned() }
    }

    fn writer() -> (OpWriter, Arc<OpQueue>, Arc<AtomicUsize>) {
        let queue = Arc::new(OpQueue::default());
        let wakes = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&wakes);
        let wake = Arc::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
            true
        });
        (OpWriter::new(Arc::clone(&queue), wake, Arc::default()), queue, wakes)
    }

    #[test]
    fn op_queue_raw_events_go_ahead_of_the_content_of_their_frame_and_do_not_split_it() {
        let (mut writer, queue, _) = writer();
        writer.push(Op::Response("{}".to_owned()));
        for (event, more) in [("1", "a"), ("2", "b"), ("3", "c")] {
            writer.append_raw(event);
            writer.append(0, BlockKind::Text, more);
        }
        let expected = [Op::Response("{}".to_owned()), Op::Raw("1\u{1e}2\u{1e}3".to_owned()), text("abc")];
        assert_eq!(queue.take(), expected);
        writer.append_raw("4");
        writer.push(Op::Notice("retry".to_owned()));
        writer.append_raw("5");
        let raw = |event: &str| Op::Raw(event.to_owned());
        assert_eq!(queue.take(), [raw("4"), Op::Notice("retry".to_owned()), raw("5")], "never ahead of other ops");
    }

    #[tokio::test(start_paused = true)]
    async fn op_queue_first_content_goes_at_once_then_one_frame_per_interval() {
        let (mut writer, queue, wakes) = writer();
        writer.append(0, BlockKind::Text, "a");
        writer.flush_if_due();
        assert_eq!(wakes.load(Ordering::Relaxed), 1);
        for _ in 0..100 {
            writer.append(0, BlockKind::Text, "b");
            writer.flush_if_due();
        }
        assert_eq!(wakes.load(Ordering::Relaxed), 1, "merged until the interval is over");
        let due = writer.due().unwrap();
        tokio::time::sleep_until(due).await;
        writer.flush_if_due();
        assert_eq!(wakes.load(Ordering::Relaxed), 2);
        assert_eq!(queue.take(), [text(&format!("a{}", "b".repeat(100)))]);
        assert!(writer.due().is_none());
    }

    #[test]
    fn op_queue_only_neighbours_of_the_same_block_are_merged() {
        let (mut writer, queue, _) = writer();
        let (mut first, mut second) = (ToolArgs::default(), ToolArgs::default());
        for piece in ["{", "\"a\":", "1,", "\"b\":2}"] {
            writer.append_arguments(1, &mut first, piece);
        }
        writer.append_arguments(2, &mut second, "{");
        writer.append(0, BlockKind::Text, "x");
        writer.append(0, BlockKind::Text, "y");
        writer.append(3, BlockKind::Thinking, "z");
        let seen: Vec<String> = queue
            .take()
            .into_iter()
            .map(|op| match op {
                Op::ToolDelta { index, text, changes } => format!("{index} {text} {}", changes.into_text()),
                Op::Delta { index, text, .. } => format!("{index} {text}"),
                other => format!("{other:?}"),
            })
            .collect();
        assert_eq!(seen, ["1 {\"a\":1,\"b\":2} [3,\"a\",1],[3,\"b\",2]", "2 { ", "0 xy", "3 z"]);
    }

    #[test]
    fn op_queue_response_head_does_not_delay_the_first_content() {
        let (mut writer, _, wakes) = writer();
        writer.send(Op::Response("{}".to_owned()));
        writer.append(0, BlockKind::Text, "a");
        writer.flush_if_due();
        assert_eq!(wakes.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn op_queue_reading_stops_while_javascript_is_far_behind() {
        let (mut writer, queue, _) = writer();
        writer.push(text(&"x".repeat(HIGH_WATER + 1)));
        let waiting = tokio::spawn(async move { writer.ready().await });
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(!waiting.is_finished());
        queue.take();
        assert_eq!(waiting.await.unwrap(), Readiness::CaughtUp);
    }
}
