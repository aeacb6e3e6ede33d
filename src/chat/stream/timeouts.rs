//! Time limits that tell a healthy long think from a dead stream.
//!
//! They run in the task that reads, where a busy JavaScript thread cannot distort them, and are reset by content, not by keep-alive
//! bytes: streams hung silently for hours behind keep-alives (docs/protocol.md#stream-errors).

use std::time::Duration;

use tokio::time::Instant;

use crate::config::TimeoutLimits;
use crate::error::{Error, ErrorKind, Phase};

/// Limit for what follows the service's reason for stopping, in which only usage and the end mark are due.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(5);

/// The limit that counts now.
#[derive(Debug)]
pub struct Timeouts {
    limits: TimeoutLimits,
    phase: Phase,
    limit: Option<Duration>,
    deadline: Option<Instant>,
}

impl Timeouts {
    /// Starts with the wait for the response head.
    pub fn headers(limits: TimeoutLimits) -> Self {
        let mut timeouts = Self { limits, phase: Phase::Headers, limit: None, deadline: None };
        timeouts.start(Phase::Headers, limits.headers);
        timeouts
    }

    /// Starts the wait for the first content, after the response head.
    pub fn first(&mut self, limit: Option<Duration>) {
        self.start(Phase::FirstToken, limit);
    }

    /// Starts the idle limit again, because content arrived; reasoning may pause longer.
    pub fn content(&mut self, thinking: bool) {
        self.start(Phase::Gap, if thinking { self.limits.idle_thinking } else { self.limits.idle_text });
    }

    /// Starts the wait for the end of a stream whose answer is complete.
    pub fn closing(&mut self) {
        self.start(Phase::Gap, Some(CLOSING_TIMEOUT));
    }

    /// Starts the current limit again.
    pub fn reset(&mut self) {
        self.start(self.phase, self.limit);
    }

    /// Returns when the current limit is reached.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Returns the current limit.
    pub fn limit(&self) -> Option<Duration> {
        self.limit
    }

    /// Makes the error for a limit that was reached.
    pub fn expired(&self) -> Error {
        let seconds = self.limit.unwrap_or_default().as_secs_f64();
        Error::new(
            ErrorKind::Timeout(self.phase),
            format!("timeout: Kimi was silent for {seconds} s {}", self.phase.describe()),
        )
    }

    fn start(&mut self, phase: Phase, limit: Option<Duration>) {
        self.phase = phase;
        self.limit = limit;
        self.deadline = limit.map(|limit| Instant::now() + limit);
    }
}
