//! Three clocks that tell a healthy long think from a dead stream.
//!
//! They run in the reader task, where a busy JavaScript thread cannot distort them. Only *meaning* resets them: a comment line
//! or a ping proves that the socket lives, not that the model does (users.md §1.1: streams hung silently for hours behind
//! keep-alives, and short watchdogs killed healthy requests at every attempt).

use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, ErrorKind, Phase};

/// Pi's default for `timeoutMs`; any other value is the person's wish (pi-extension §3.4).
const PI_DEFAULT_TIMEOUT: Duration = Duration::from_secs(300);

/// Prompt size above which the first meaning may take twice as long.
const LONG_PROMPT_TOKENS: u64 = 200_000;

/// Once the service has said why it stopped, only usage and the end mark are due; they come within milliseconds or never.
const CLOSING: Duration = Duration::from_secs(5);

/// TimeoutLimits; `None` switches a clock off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeoutLimits {
    /// DNS, TCP, proxy and TLS.
    pub connect: Option<Duration>,
    /// Until the response head.
    pub headers: Option<Duration>,
    /// From the response head to the first meaning.
    pub first: Option<Duration>,
    /// The same for maximal effort and very long prompts.
    pub first_long: Option<Duration>,
    /// Between two pieces of text or a tool call.
    pub idle_text: Option<Duration>,
    /// Between two pieces of reasoning.
    pub idle_thinking: Option<Duration>,
}

impl Default for TimeoutLimits {
    fn default() -> Self {
        let seconds = |n| Some(Duration::from_secs(n));
        Self {
            connect: seconds(15),
            headers: seconds(300),
            first: seconds(300),
            first_long: seconds(600),
            idle_text: seconds(120),
            idle_thinking: seconds(300),
        }
    }
}

impl TimeoutLimits {
    /// Applies Pi's `timeoutMs`: a value other than Pi's default caps every clock of the answer, zero switches them off.
    pub fn capped(mut self, pi_timeout: Option<Duration>) -> Self {
        let Some(wish) = pi_timeout.filter(|wish| *wish != PI_DEFAULT_TIMEOUT) else { return self };
        for clock in
            [&mut self.headers, &mut self.first, &mut self.first_long, &mut self.idle_text, &mut self.idle_thinking]
        {
            *clock = if wish.is_zero() { None } else { Some(clock.map_or(wish, |limit| limit.min(wish))) };
        }
        self
    }

    /// The clock for the first meaning of this request.
    pub fn first_for(&self, effort: Option<&str>, prompt_tokens: u64) -> Option<Duration> {
        if effort == Some("max") || prompt_tokens > LONG_PROMPT_TOKENS { self.first_long } else { self.first }
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pis_default_is_not_a_wish() {
        let seconds = Duration::from_secs;
        assert_eq!(TimeoutLimits::default().capped(Some(seconds(300))), TimeoutLimits::default());
        assert_eq!(TimeoutLimits::default().capped(None), TimeoutLimits::default());
        let capped = TimeoutLimits::default().capped(Some(seconds(60)));
        assert_eq!(capped.headers, Some(seconds(60)));
        assert_eq!(capped.first_long, Some(seconds(60)));
        assert_eq!(capped.connect, Some(seconds(15)));
        assert_eq!(TimeoutLimits::default().capped(Some(Duration::ZERO)).idle_text, None);
    }

    #[test]
    fn long_thinkers_get_longer() {
        let limits = TimeoutLimits::default();
        assert_eq!(limits.first_for(Some("high"), 1000), limits.first);
        assert_eq!(limits.first_for(Some("max"), 1000), limits.first_long);
        assert_eq!(limits.first_for(None, 200_001), limits.first_long);
    }
}
