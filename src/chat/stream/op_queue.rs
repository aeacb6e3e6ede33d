//! Deltas → frames at display rate.
//!
//! A screen shows at most sixty pictures a second and Pi lays its Markdown out anew for each event
//! (docs/pi-contract.md#cost-per-event), so one crossing per token would be waste. The first meaning is handed over at once;
//! after that what arrives is merged and handed over once per [`INTERVAL`]. Merging also happens while JavaScript is busy, so a
//! slow consumer costs memory for text, never for events; beyond [`HIGH_WATER`] the socket is not read until JavaScript has
//! caught up.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::tool_args::{Changes, ToolArgs};
use crate::error::Error;

/// Shortest time between two frames of one stream.
pub const INTERVAL: Duration = Duration::from_millis(33);

/// Bytes that may wait for JavaScript before reading stops.
const HIGH_WATER: usize = 1 << 20;

/// Bytes of arguments that are read in one go.
const LONGEST_READ: usize = 64 << 10;

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
    /// The finished body as JSON text: show it to the payload hook and answer.
    Body(String),
    /// The response head: `{status, headers}`.
    Response(String),
    /// Something a person may want to know while waiting.
    Notice(String),
    /// The content of the medium at this position is needed.
    Media {
        /// Position among the media of the turn.
        index: usize,
        /// First character that is needed.
        from: usize,
        /// The one behind the last.
        to: usize,
    },
    /// The raw JSON of one service event, for callers that asked for it.
    Raw(String),
    /// A block begins; `head` is JSON with what is final from the start.
    Start {
        /// Position in the content.
        index: usize,
        /// What kind of block.
        kind: BlockKind,
        /// `{}` | `{signature, redacted?}` | `{id, name}`
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
        /// What kind of block.
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

impl Op {
    fn size(&self) -> usize {
        match self {
            Self::Body(text) | Self::Response(text) | Self::Notice(text) | Self::Raw(text) => text.len(),
            Self::Delta { text, .. } => text.len(),
            Self::ToolDelta { text, changes, .. } => text.len() + changes.len(),
            _ => 64,
        }
    }
}

#[derive(Debug, Default)]
struct Waiting {
    ops: Vec<Op>,
    bytes: usize,
}

/// What waits for JavaScript; shared between the turn's task and the JavaScript thread.
#[derive(Debug, Default)]
pub struct FrameQueue {
    waiting: Mutex<Waiting>,
    drained: Notify,
}

impl FrameQueue {
    /// Everything that waits. Called on the JavaScript thread.
    pub fn take(&self) -> Vec<Op> {
        let ops = {
            let mut waiting = self.lock();
            waiting.bytes = 0;
            std::mem::take(&mut waiting.ops)
        };
        self.drained.notify_one();
        ops
    }

    fn push(&self, op: Op) {
        let mut waiting = self.lock();
        waiting.bytes += op.size();
        waiting.ops.push(op);
    }

    /// Joins onto the op before where that is of the same block, so that a slow consumer costs memory for text only.
    fn append(&self, at: usize, of: BlockKind, more: &str) {
        let mut waiting = self.lock();
        waiting.bytes += more.len();
        match waiting.ops.last_mut() {
            Some(Op::Delta { index, text, .. }) if *index == at => text.push_str(more),
            _ => waiting.ops.push(Op::Delta { index: at, kind: of, text: more.to_owned() }),
        }
    }

    fn append_arguments(&self, at: usize, reader: &mut ToolArgs, more: &str) {
        let mut waiting = self.lock();
        if !matches!(waiting.ops.last(), Some(Op::ToolDelta { index, .. }) if *index == at) {
            waiting.ops.push(Op::ToolDelta { index: at, text: String::new(), changes: Changes::default() });
        }
        let Some(Op::ToolDelta { text, changes, .. }) = waiting.ops.last_mut() else { return };
        let before = changes.len();
        text.push_str(more);
        reader.append(more, changes);
        let grown = more.len() + changes.len() - before;
        waiting.bytes += grown;
    }

    fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// The queue holds plain data and every update leaves it whole, so a panic elsewhere does not spoil it.
    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells JavaScript that there is something to take; false once nobody listens any more.
pub type WakeFn = Arc<dyn Fn() -> bool + Send + Sync>;

/// How JavaScript keeps up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// It does.
    Ready,
    /// It had fallen behind, and reading had to wait for it.
    CaughtUp,
    /// Nobody listens any more.
    Gone,
}

/// The writing end: collects ops and decides when the bell is rung.
pub struct Frames {
    queue: Arc<FrameQueue>,
    bell: WakeFn,
    last: Option<Instant>,
    dirty: bool,
    alive: bool,
}

impl Frames {
    /// A writing end for `queue`.
    pub fn new(queue: Arc<FrameQueue>, bell: WakeFn) -> Self {
        Self { queue, bell, last: None, dirty: false, alive: true }
    }

    /// A second writing end for the same queue, for the terminal op of a turn that panicked.
    pub fn spare(&self) -> Self {
        Self::new(Arc::clone(&self.queue), Arc::clone(&self.bell))
    }

    /// Adds an op to the frame under way.
    pub fn push(&mut self, op: Op) {
        self.queue.push(op);
        self.dirty = true;
    }

    /// Adds text or reasoning to the frame under way.
    pub fn append(&mut self, index: usize, kind: BlockKind, text: &str) {
        self.queue.append(index, kind, text);
        self.dirty = true;
    }

    /// Adds argument text, and what `reader` makes of it, to the frame under way.
    pub fn append_arguments(&mut self, index: usize, reader: &mut ToolArgs, text: &str) {
        let mut rest = text;
        while !rest.is_empty() {
            // JavaScript waits for the lock that is held while reading, so it is never held for long.
            let mut end = rest.len().min(LONGEST_READ);
            while !rest.is_char_boundary(end) {
                end -= 1;
            }
            let (piece, more) = rest.split_at(end);
            self.queue.append_arguments(index, reader, piece);
            rest = more;
        }
        self.dirty = true;
    }

    /// Call after each batch of pushes: hands over at once if nothing was handed over during the last interval.
    pub fn flush_if_due(&mut self) {
        if self.dirty && self.last.is_none_or(|last| last.elapsed() >= INTERVAL) {
            self.flush();
        }
    }

    /// When the frame under way is due, if there is one.
    pub fn due(&self) -> Option<Instant> {
        self.last.filter(|_| self.dirty).map(|last| last + INTERVAL)
    }

    /// Hands the frame over now.
    pub fn flush(&mut self) {
        if std::mem::take(&mut self.dirty) {
            self.last = Some(Instant::now());
            self.alive = (self.bell)();
        }
    }

    /// Adds an op that JavaScript has to see at once. It is no picture on a screen, so it delays none.
    pub fn send(&mut self, op: Op) {
        self.queue.push(op);
        self.dirty = false;
        self.alive = (self.bell)();
    }

    /// Waits while JavaScript is far behind.
    pub async fn ready(&mut self) -> Readiness {
        let mut waited = false;
        while self.alive && self.queue.bytes() > HIGH_WATER {
            waited = true;
            self.flush();
            // The limit covers a listener that went away with a frame still waiting.
            let _ = tokio::time::timeout(Duration::from_secs(1), self.queue.drained.notified()).await;
            self.alive = (self.bell)();
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
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn text(text: &str) -> Op {
        Op::Delta { index: 0, kind: BlockKind::Text, text: text.to_owned() }
    }

    fn frames() -> (Frames, Arc<FrameQueue>, Arc<AtomicUsize>) {
        let queue = Arc::new(FrameQueue::default());
        let rings = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&rings);
        let bell = Arc::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
            true
        });
        (Frames::new(Arc::clone(&queue), bell), queue, rings)
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_meaning_goes_at_once_and_then_one_frame_per_interval() {
        let (mut frames, queue, rings) = frames();
        frames.append(0, BlockKind::Text, "a");
        frames.flush_if_due();
        assert_eq!(rings.load(Ordering::Relaxed), 1);
        for _ in 0..100 {
            frames.append(0, BlockKind::Text, "b");
            frames.flush_if_due();
        }
        assert_eq!(rings.load(Ordering::Relaxed), 1, "merged until the interval is over");
        let due = frames.due().unwrap();
        tokio::time::sleep_until(due).await;
        frames.flush_if_due();
        assert_eq!(rings.load(Ordering::Relaxed), 2);
        assert_eq!(queue.take(), [text(&format!("a{}", "b".repeat(100)))]);
        assert!(frames.due().is_none());
    }

    #[test]
    fn only_neighbours_of_the_same_block_are_merged() {
        let (mut frames, queue, _) = frames();
        let (mut first, mut second) = (ToolArgs::default(), ToolArgs::default());
        for piece in ["{", "\"a\":", "1,", "\"b\":2}"] {
            frames.append_arguments(1, &mut first, piece);
        }
        frames.append_arguments(2, &mut second, "{");
        frames.append(0, BlockKind::Text, "x");
        frames.append(0, BlockKind::Text, "y");
        frames.append(3, BlockKind::Thinking, "z");
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
    fn the_response_head_does_not_delay_the_first_words() {
        let (mut frames, _, rings) = frames();
        frames.send(Op::Response("{}".to_owned()));
        frames.append(0, BlockKind::Text, "a");
        frames.flush_if_due();
        assert_eq!(rings.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn reading_stops_while_javascript_is_far_behind() {
        let (mut frames, queue, _) = frames();
        frames.push(text(&"x".repeat(HIGH_WATER + 1)));
        let waiting = tokio::spawn(async move { frames.ready().await });
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(!waiting.is_finished());
        queue.take();
        assert_eq!(waiting.await.unwrap(), Readiness::CaughtUp);
    }
}
