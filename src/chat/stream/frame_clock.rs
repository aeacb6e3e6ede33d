//! Decides when frames are handed over to JavaScript: the first one at once, the next ones at a common pace of all streams.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::runtime::{TICK, cycle_start};

/// Longest time between two frames: text must be seen to move.
const LONGEST_INTERVAL: Duration = Duration::from_millis(250);

/// Decides when the streams of one consumer hand their frames over. They share it, so that one crossing serves all of them.
#[derive(Debug)]
pub struct FrameClock {
    interval_ms: AtomicU64,
    last: Mutex<Option<Instant>>,
}

impl Default for FrameClock {
    fn default() -> Self {
        Self { interval_ms: AtomicU64::new(TICK.as_millis() as u64), last: Mutex::default() }
    }
}

impl FrameClock {
    /// Sets the time between frames, which depends on what a frame costs the consumer.
    pub fn set_interval(&self, interval: Duration) {
        self.interval_ms.store(interval.clamp(TICK, LONGEST_INTERVAL).as_millis() as u64, Ordering::Relaxed);
    }

    /// Returns when the next frame is due. The end of a block does not wait for a long interval.
    pub(super) fn due(&self, ends_block: bool) -> Option<Instant> {
        let interval = Duration::from_millis(self.interval_ms.load(Ordering::Relaxed));
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.map(|last| last + if ends_block { TICK } else { interval })
    }

    pub(super) fn handed_over(&self, now: Instant) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }
}

/// Returns the time at which the current cycle of the I/O thread began, so that all streams agree on it. In a burst the thread
/// never parks and the cycle gets old; then it is the time itself, or every chunk would find its frame due.
pub(super) fn now() -> Instant {
    let time = Instant::now();
    let start = cycle_start().map(Instant::from_std);
    start.filter(|start| time.duration_since(*start) < TICK / 2).unwrap_or(time)
}
