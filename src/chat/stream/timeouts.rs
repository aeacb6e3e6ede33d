//! Three clocks that tell a healthy long think from a dead stream.
//!
//! They run in the reader task, where a busy JavaScript thread cannot distort them. Only *meaning* resets them: a comment line
//! or a ping proves that the socket lives, not that the model does (docs/protocol.md#stream-errors: streams hung silently for
//! hours behind keep-alives, and short watchdogs killed healthy requests at every attempt).

use crate::config::TimeoutLimits;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, ErrorKind, Phase};

/// Once the service has said why it stopped, only usage and the end mark are due; they come within milliseconds or never.
const CLOSING: Duration = Duration::from_secs(5);

/// The clock that runs now.
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

    /// The head is here: wait for the first meaning.
    pub fn first(&mut self, limit: Option<Duration>) {
        self.start(Phase::FirstToken, limit);
    }

    /// Meaning arrived; `thinking` tells which gap is allowed now.
    pub fn content(&mut self, thinking: bool) {
        self.start(Phase::Gap, if thinking { self.limits.idle_thinking } else { self.limits.idle_text });
    }

    /// The answer is complete; only the end of the stream is missing.
    pub fn closing(&mut self) {
        self.start(Phase::Gap, Some(CLOSING));
    }

    /// Time that JavaScript needed to catch up is not the service's silence.
    pub fn reset(&mut self) {
        self.start(self.phase, self.limit);
    }

    /// When the clock runs out.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// How long the clock that runs now may run.
    pub fn limit(&self) -> Option<Duration> {
        self.limit
    }

    /// The error for a clock that ran out.
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
