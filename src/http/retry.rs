//! Decides what may be tried again, how often and when (docs/protocol.md#retry-guidance), and runs an operation by these rules.

use std::time::{Duration, SystemTime};

use reqwest::{RequestBuilder, Response};
use tokio::time::Instant;

use super::sent_signal::SentSignal;
use crate::config::RetryPolicy;
use crate::error::{Error, ErrorKind, Result, RetryOutcome};

/// Delay after the first failure; it doubles with each further one.
const FIRST_DELAY: Duration = Duration::from_millis(500);

/// Longest delay that we choose ourselves.
const LONGEST_DELAY: Duration = Duration::from_secs(32);

/// How often a request is sent again that the server has refused unread.
const MAX_REFUSALS: u32 = 3;

/// How one attempt of an [`Operation`] ended.
#[derive(Debug)]
pub enum Attempt<T> {
    /// It succeeded.
    Success(T),
    /// It failed and may be repeated as far as the policy allows.
    Failed {
        /// Why it failed.
        error: Error,
        /// Result to return instead of the error once no further attempt is allowed.
        fallback: Option<T>,
    },
    /// It failed and must not be repeated.
    Fatal(Error),
    /// The operation changed what it sends, so it is repeated at once.
    Changed {
        /// Whether the attempt counts: not if the failure says nothing about the service.
        counts: bool,
    },
}

/// Something that is tried until it succeeds or the policy ends it.
pub trait Operation {
    /// Result of a successful attempt.
    type Output;

    /// Makes one attempt.
    fn attempt(&mut self) -> impl Future<Output = Attempt<Self::Output>> + Send;

    /// Returns how much of the time so far does not count against the policy's total.
    fn uncounted(&self) -> Duration {
        Duration::ZERO
    }

    /// Reports the next attempt, before the delay.
    fn before_retry(&mut self, retry: Retry<'_>) -> impl Future<Output = ()> + Send;

    /// Prepares the next attempt after one that failed with `error`, behind the delay.
    fn reset(&mut self, error: &Error) -> impl Future<Output = Result<()>> + Send;
}

/// An attempt that is about to be made.
#[derive(Debug)]
pub struct Retry<'e> {
    /// Its number, counted from 1.
    pub attempt: u32,
    /// Attempts that are allowed in total.
    pub attempts: u32,
    /// How long it is delayed.
    pub delay: Duration,
    /// Why the one before it failed.
    pub error: &'e Error,
}

/// The error of an operation that is not tried again.
#[derive(Debug)]
pub struct GaveUp {
    /// Error of the last attempt.
    pub error: Error,
    /// What is left to try.
    pub outcome: RetryOutcome,
}

impl From<Error> for GaveUp {
    fn from(error: Error) -> Self {
        Self { error, outcome: RetryOutcome::Open }
    }
}

/// Runs `operation` until it succeeds or `policy` ends it.
pub async fn run_with_retry<O: Operation>(operation: &mut O, policy: &RetryPolicy) -> Result<O::Output, GaveUp> {
    let mut state = RetryState::default();
    let start = Instant::now();
    loop {
        state.attempts += 1;
        let (error, fallback) = match operation.attempt().await {
            Attempt::Success(output) => return Ok(output),
            Attempt::Failed { error, fallback } => (error, fallback),
            Attempt::Fatal(error) => return Err(error.into()),
            Attempt::Changed { counts } => {
                state.attempts -= u32::from(!counts);
                continue;
            }
        };
        let decision = match (state.decide(&error, policy), policy.max_total) {
            (RetryDecision::Again(delay), Some(allowed))
                if start.elapsed().saturating_sub(operation.uncounted()) + delay > allowed =>
            {
                RetryDecision::Final(RetryOutcome::OutOfTime { attempts: state.attempts, allowed })
            }
            (decision, _) => decision,
        };
        match (decision, fallback) {
            (RetryDecision::Again(delay), _) => {
                let (attempt, attempts) = (state.attempts + 1, policy.attempts);
                operation.before_retry(Retry { attempt, attempts, delay, error: &error }).await;
                tokio::time::sleep(delay).await;
                operation.reset(&error).await?;
            }
            (RetryDecision::Final(_), Some(output)) => return Ok(output),
            (RetryDecision::Final(outcome), None) => return Err(GaveUp { error, outcome }),
        }
    }
}

/// Counts the attempts of one operation.
#[derive(Debug, Default)]
pub struct RetryState {
    /// Requests sent so far.
    pub attempts: u32,
    timeouts: u32,
    empty_answers: u32,
}

/// What to do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryDecision {
    /// Send the request again after this time.
    Again(Duration),
    /// Give up.
    Final(RetryOutcome),
}

impl RetryState {
    /// Decides what follows the error of the attempt that was counted last.
    pub fn decide(&mut self, error: &Error, policy: &RetryPolicy) -> RetryDecision {
        if !error.kind.retryable() {
            return RetryDecision::Final(RetryOutcome::Open);
        }
        let exhausted = RetryDecision::Final(RetryOutcome::Exhausted { attempts: self.attempts });
        if self.attempts >= policy.attempts {
            return exhausted;
        }
        // A stalled or empty answer costs a whole prompt each time, so it is repeated only once.
        let limited = match error.kind {
            ErrorKind::Timeout(_) => Some(&mut self.timeouts),
            ErrorKind::EmptyAnswer => Some(&mut self.empty_answers),
            _ => None,
        };
        if let Some(count) = limited {
            *count += 1;
            return if *count == 1 { RetryDecision::Again(Duration::ZERO) } else { exhausted };
        }
        match error.retry_after {
            Some(asked) if !policy.max_delay.is_zero() && asked > policy.max_delay => {
                RetryDecision::Final(RetryOutcome::WaitTooLong { asked, allowed: policy.max_delay })
            }
            Some(asked) if !asked.is_zero() => RetryDecision::Again(asked),
            _ => RetryDecision::Again(backoff(self.attempts)),
        }
    }
}

/// Returns the delay after so many attempts: 0.5 s doubling to 32 s, plus up to a quarter.
fn backoff(attempts: u32) -> Duration {
    let doubled = FIRST_DELAY.saturating_mul(1 << attempts.saturating_sub(1).min(16));
    doubled.min(LONGEST_DELAY).mul_f64(1.0 + rand::random::<f64>() * 0.25)
}

/// Reads `retry-after-ms`, then `Retry-After` in seconds or as a date.
pub fn retry_after<'h>(header: impl Fn(&str) -> Option<&'h str>, now: SystemTime) -> Option<Duration> {
    if let Some(millis) = header("retry-after-ms").and_then(|text| text.trim().parse::<f64>().ok()) {
        return Duration::try_from_secs_f64(millis / 1000.0).ok();
    }
    let text = header("retry-after")?.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// Sends a request, and again if the server says that it has not read it: too many streams, or a connection that was about to be
/// closed. The HTTP library does so itself only for bodies that cannot signal.
pub async fn send_until_read(signal: &SentSignal, build: impl Fn() -> RequestBuilder) -> reqwest::Result<Response> {
    let mut refusals = 0;
    loop {
        match build().send().await {
            Err(error) if refusals < MAX_REFUSALS && is_refused_unread(&error) => {
                refusals += 1;
                signal.set_refused();
            }
            result => return result,
        }
    }
}

fn is_refused_unread(error: &reqwest::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            let closing = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
            return error.is_remote() && (closing || error.reason() == Some(h2::Reason::REFUSED_STREAM));
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Phase;

    fn error(kind: ErrorKind, retry_after: Option<u64>) -> Error {
        Error { retry_after: retry_after.map(Duration::from_secs), ..Error::new(kind, "x") }
    }

    #[test]
    fn retry_delays_double_up_to_the_limit() {
        for (attempts, base) in [(1, 0.5), (2, 1.0), (3, 2.0), (7, 32.0), (40, 32.0)] {
            let seconds = backoff(attempts).as_secs_f64();
            assert!(seconds >= base && seconds <= base * 1.25, "{attempts}: {seconds}");
        }
    }

    #[test]
    fn retry_ends_with_the_allowed_attempts() {
        let policy = RetryPolicy { attempts: 3, ..RetryPolicy::default() };
        let mut state = RetryState { attempts: 2, ..RetryState::default() };
        assert!(matches!(state.decide(&error(ErrorKind::Overloaded, None), &policy), RetryDecision::Again(_)));
        state.attempts = 3;
        let exhausted = RetryDecision::Final(RetryOutcome::Exhausted { attempts: 3 });
        assert_eq!(state.decide(&error(ErrorKind::Overloaded, None), &policy), exhausted);
    }

    #[test]
    fn retry_final_errors_are_never_tried_again() {
        let mut state = RetryState { attempts: 1, ..RetryState::default() };
        for kind in [
            ErrorKind::QuotaExhausted,
            ErrorKind::Entitlement,
            ErrorKind::ClientRefused,
            ErrorKind::BadRequest,
            ErrorKind::Cancelled,
            ErrorKind::Unauthorized,
        ] {
            let decide = state.decide(&error(kind, None), &RetryPolicy::default());
            assert_eq!(decide, RetryDecision::Final(RetryOutcome::Open));
        }
    }

    #[test]
    fn retry_stall_or_empty_answer_is_repeated_once() {
        let mut state = RetryState { attempts: 1, ..RetryState::default() };
        for kind in [ErrorKind::EmptyAnswer, ErrorKind::Timeout(Phase::Gap)] {
            let error = error(kind, None);
            assert_eq!(state.decide(&error, &RetryPolicy::default()), RetryDecision::Again(Duration::ZERO));
            assert!(matches!(
                state.decide(&error, &RetryPolicy::default()),
                RetryDecision::Final(RetryOutcome::Exhausted { .. })
            ));
        }
    }

    #[test]
    fn retry_waits_as_long_as_the_service_asks_up_to_the_limit() {
        let mut state = RetryState { attempts: 1, ..RetryState::default() };
        let policy = RetryPolicy::default();
        let asked = |seconds| error(ErrorKind::RateLimited, Some(seconds));
        assert_eq!(state.decide(&asked(8), &policy), RetryDecision::Again(Duration::from_secs(8)));
        assert!(matches!(state.decide(&asked(61), &policy), RetryDecision::Final(RetryOutcome::WaitTooLong { .. })));
        let unlimited = RetryPolicy { max_delay: Duration::ZERO, ..policy };
        assert_eq!(state.decide(&asked(61), &unlimited), RetryDecision::Again(Duration::from_secs(61)));
    }

    /// Fails as often as it is told and notes what the loop does.
    #[derive(Default)]
    struct Script {
        failures: u32,
        steps: Vec<String>,
        uncounted: Duration,
    }

    impl Operation for Script {
        type Output = u32;

        async fn attempt(&mut self) -> Attempt<u32> {
            self.steps.push("attempt".to_owned());
            if self.failures == 0 {
                return Attempt::Success(7);
            }
            self.failures -= 1;
            Attempt::Failed { error: error(ErrorKind::Overloaded, Some(10)), fallback: None }
        }

        fn uncounted(&self) -> Duration {
            self.uncounted
        }

        async fn before_retry(&mut self, retry: Retry<'_>) {
            self.steps.push(format!("{} of {} in {:?}", retry.attempt, retry.attempts, retry.delay));
        }

        async fn reset(&mut self, _: &Error) -> Result<()> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn retry_loop_reports_each_attempt_and_returns_the_first_success() {
        let mut script = Script { failures: 1, ..Script::default() };
        let output = run_with_retry(&mut script, &RetryPolicy { attempts: 3, ..RetryPolicy::default() }).await;
        assert_eq!(output.unwrap(), 7);
        assert_eq!(script.steps, ["attempt", "2 of 3 in 10s", "attempt"]);
    }

    #[tokio::test(start_paused = true)]
    async fn retry_loop_ends_before_a_wait_that_exceeds_the_total() {
        let policy = RetryPolicy { max_total: Some(Duration::from_secs(25)), ..RetryPolicy::default() };
        let mut script = Script { failures: 9, ..Script::default() };
        let gave_up = run_with_retry(&mut script, &policy).await.unwrap_err();
        assert!(matches!(gave_up.outcome, RetryOutcome::OutOfTime { attempts: 3, .. }), "{gave_up:?}");
        assert!(gave_up.error.message_for_pi(gave_up.outcome).contains("within 25 s (retry.maxTotalMs)"));
        let mut parked = Script { failures: 9, uncounted: Duration::from_secs(20), ..Script::default() };
        let gave_up = run_with_retry(&mut parked, &policy).await.unwrap_err();
        assert!(matches!(gave_up.outcome, RetryOutcome::OutOfTime { attempts: 5, .. }), "{gave_up:?}");
    }

    #[test]
    fn retry_after_is_read_in_all_forms() {
        let now = httpdate::parse_http_date("Sun, 22 Nov 2026 12:00:00 GMT").unwrap();
        let read = |name: &'static str, value: &'static str| retry_after(|asked| (asked == name).then_some(value), now);
        assert_eq!(read("retry-after", "2"), Some(Duration::from_secs(2)));
        assert_eq!(read("retry-after", "Sun, 22 Nov 2026 12:00:05 GMT"), Some(Duration::from_secs(5)));
        assert_eq!(read("retry-after", "Sun, 22 Nov 2026 11:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(read("retry-after-ms", "1500"), Some(Duration::from_millis(1500)));
        assert_eq!(read("retry-after", "soon"), None);
        assert_eq!(read("retry-after", "-1"), None);
    }
}
