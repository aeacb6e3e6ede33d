//! Time limits that tell a healthy long think from a dead stream.
//!
//! They run in the task that reads, where a busy JavaScript thread cannot distort them, and are reset by content, not by keep-alive
//! bytes: streams hung silently for hours behind keep-alives (docs/protocol.md#stream-errors).

use std::time::Duration;

use tokio::time::Instant;

use crate::config::TimeoutLimits;
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::http::timeout::Deadline;

/// Limit for what follows the service's reason for stopping, in which only usage and the end mark are due.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(5);

/// Pi's default for `timeoutMs`; any other value was set by the user (docs/pi-contract.md#stream-options).
const PI_DEFAULT_TIMEOUT: Duration = Duration::from_secs(300);

/// Prompt size above which the first content may take twice as long, in tokens.
const LONG_PROMPT_TOKENS: u64 = 200_000;

/// Applies Pi's `timeoutMs`: a value other than Pi's default caps every timeout of the answer, zero switches them off.
pub fn capped(mut limits: TimeoutLimits, pi_timeout: Option<Duration>) -> TimeoutLimits {
    let Some(cap) = pi_timeout.filter(|cap| *cap != PI_DEFAULT_TIMEOUT) else { return limits };
    for timeout in [
        &mut limits.headers,
        &mut limits.first,
        &mut limits.first_long,
        &mut limits.idle_text,
        &mut limits.idle_thinking,
    ] {
        *timeout = if cap.is_zero() { None } else { Some(timeout.map_or(cap, |limit| limit.min(cap))) };
    }
    limits
}

/// Returns the limit for the first content of a request.
pub fn first_content_limit(limits: &TimeoutLimits, effort: Option<&str>, prompt_tokens: u64) -> Option<Duration> {
    if effort == Some("max") || prompt_tokens > LONG_PROMPT_TOKENS { limits.first_long } else { limits.first }
}

/// The limit that counts now.
#[derive(Debug)]
pub struct Timeouts {
    limits: TimeoutLimits,
    phase: Phase,
    deadline: Option<Deadline>,
}

impl Timeouts {
    /// Starts the wait for the first content, after the response head.
    pub fn first_content(limits: TimeoutLimits, limit: Option<Duration>) -> Self {
        Self { limits, phase: Phase::FirstToken, deadline: limit.map(Deadline::after) }
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
        self.start(self.phase, self.limit());
    }

    /// Returns when [`Self::check`] has to be called.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline.map(|deadline| deadline.at())
    }

    /// Returns the current limit.
    pub fn limit(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.limit())
    }

    /// Handles a timer that has fired; an error if the limit is reached.
    pub fn check(&mut self) -> Result<()> {
        let Some(deadline) = &mut self.deadline else { return Ok(()) };
        if deadline.expired() { Err(silence(self.phase, deadline.limit())) } else { Ok(()) }
    }

    fn start(&mut self, phase: Phase, limit: Option<Duration>) {
        self.phase = phase;
        self.deadline = limit.map(Deadline::after);
    }
}

/// Makes the error for a service that was silent for `limit`.
pub fn silence(phase: Phase, limit: Duration) -> Error {
    let seconds = limit.as_secs_f64();
    let message = format!("timeout: Kimi was silent for {seconds} s {}", phase.describe());
    Error::new(ErrorKind::Timeout(phase), message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pi_timeout_default_changes_nothing_others_cap() {
        let seconds = Duration::from_secs;
        assert_eq!(capped(TimeoutLimits::default(), Some(seconds(300))), TimeoutLimits::default());
        assert_eq!(capped(TimeoutLimits::default(), None), TimeoutLimits::default());
        let limits = capped(TimeoutLimits::default(), Some(seconds(60)));
        assert_eq!(limits.headers, Some(seconds(60)));
        assert_eq!(limits.first_long, Some(seconds(60)));
        assert_eq!(limits.connect, Some(seconds(15)));
        assert_eq!(capped(TimeoutLimits::default(), Some(Duration::ZERO)).idle_text, None);
    }

    #[test]
    fn first_content_max_effort_and_long_prompts_get_longer() {
        let limits = TimeoutLimits::default();
        assert_eq!(first_content_limit(&limits, Some("high"), 1000), limits.first);
        assert_eq!(first_content_limit(&limits, Some("max"), 1000), limits.first_long);
        assert_eq!(first_content_limit(&limits, None, 200_001), limits.first_long);
    }
}
