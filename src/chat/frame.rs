//! Deltas → frames at display rate.
//!
//! A screen shows at most sixty pictures a second and Pi lays its Markdown out anew for each event (pi-extension §3.7), so one
//! crossing per token would be waste. The first meaning is handed over at once; after that what arrives is merged and handed
//! over once per [`INTERVAL`]. Merging also happens while JavaScript is busy, so a slow consumer costs memory for text, never
//! for events; beyond [`HIGH_WATER`] the socket is not read until JavaScript has caught up.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Shortest time between two frames of one stream.
pub const INTERVAL: Duration = Duration::from_millis(33);

/// Bytes that may wait for JavaScript before reading stops.
const HIGH_WATER: usize = 1 << 20;

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
        /// Comma-separated changes.
        changes: String,
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
    /// The turn failed (JSON). Terminal.
    Failed(String),
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

    /// Joins `next` onto this one where that loses nothing; gives it back otherwise.
    fn merge(&mut self, next: Self) -> Option<Self> {
        match (self, next) {
            (Self::Delta { index, text, .. }, Self::Delta { index: at, text: more, .. }) if *index == at => {
                text.push_str(&more);
                None
            }
            (
                Self::ToolDelta { index, text, changes },
                Self::ToolDelta { index: at, text: more, changes: more_changes },
            ) if *index == at => {
                text.push_str(&more);
                if !changes.is_empty() && !more_changes.is_empty() {
                    changes.push(',');
                }
                changes.push_str(&more_changes);
                None
            }
            (_, next) => Some(next),
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
        let rest = match waiting.ops.last_mut() {
            Some(last) => last.merge(op),
            None => Some(op),
        };
        waiting.ops.extend(rest);
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
pub type Bell = Arc<dyn Fn() -> bool + Send + Sync>;

/// The writing end: collects ops and decides when the bell is rung.
pub struct Frames {
    queue: Arc<FrameQueue>,
    bell: Bell,
    last: Option<Instant>,
    dirty: bool,
    alive: bool,
}

impl Frames {
    /// A writing end for `queue`.
    pub fn new(queue: Arc<FrameQueue>, bell: Bell) -> Self {
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

    /// Call after each batch of pushes: hands over at once if nothing was handed over during the last interval.
    pub fn settle(&mut self) {
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

    /// Adds an op that JavaScript has to see at once.
    pub fn send(&mut self, op: Op) {
        self.push(op);
        self.flush();
    }

    /// Waits while JavaScript is far behind. False once nobody listens any more.
    pub async fn ready(&mut self) -> bool {
        while self.alive && self.queue.bytes() > HIGH_WATER {
            self.flush();
            // The limit covers a listener that went away with a frame still waiting.
            let _ = tokio::time::timeout(Duration::from_secs(1), self.queue.drained.notified()).await;
            self.alive = (self.bell)();
        }
        self.alive
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
        frames.push(text("a"));
        frames.settle();
        assert_eq!(rings.load(Ordering::Relaxed), 1);
        for _ in 0..100 {
            frames.push(text("b"));
            frames.settle();
        }
        assert_eq!(rings.load(Ordering::Relaxed), 1, "merged until the interval is over");
        let due = frames.due().unwrap();
        tokio::time::sleep_until(due).await;
        frames.settle();
        assert_eq!(rings.load(Ordering::Relaxed), 2);
        assert_eq!(queue.take(), [text(&format!("a{}", "b".repeat(100)))]);
        assert!(frames.due().is_none());
    }

    #[test]
    fn only_neighbours_of_the_same_block_are_merged() {
        let queue = FrameQueue::default();
        let tool = |index, text: &str, changes: &str| Op::ToolDelta {
            index,
            text: text.to_owned(),
            changes: changes.to_owned(),
        };
        queue.push(tool(1, "{", ""));
        queue.push(tool(1, "\"a\":", ""));
        queue.push(tool(1, "1,", "[3,\"a\",1]"));
        queue.push(tool(1, "\"b\":2}", "[3,\"b\",2]"));
        queue.push(tool(2, "{", ""));
        queue.push(text("x"));
        queue.push(text("y"));
        assert_eq!(
            queue.take(),
            [tool(1, "{\"a\":1,\"b\":2}", "[3,\"a\",1],[3,\"b\",2]"), tool(2, "{", ""), text("xy")]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn reading_stops_while_javascript_is_far_behind() {
        let (mut frames, queue, _) = frames();
        frames.push(text(&"x".repeat(HIGH_WATER + 1)));
        let waiting = tokio::spawn(async move { frames.ready().await });
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(!waiting.is_finished());
        queue.take();
        assert!(waiting.await.unwrap());
    }
}
