//! What may be tried again, how often and when.
//!
//! Pi and the service both have opinions: the service sends `Retry-After`, Pi passes `maxRetryDelayMs`. Only requests of which
//! nothing visible has come through are repeated; the turn sees to that. Source: docs/protocol.md#retry-guidance.

use crate::config::RetryPolicy;
use std::time::{Duration, SystemTime};

use crate::error::{Error, ErrorKind, RetryOutcome};

const FIRST_DELAY: Duration = Duration::from_millis(500);
const LONGEST_DELAY: Duration = Duration::from_secs(32);

/// Counts the attempts of one turn.
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
    /// Give up; the retry_outcome says what that means for whoever might try again.
    Final(RetryOutcome),
}

impl RetryState {
    /// Judges the error of the attempt that was counted last.
    pub fn decide(&mut self, error: &Error, policy: &RetryPolicy) -> RetryDecision {
        if !error.kind.retryable() {
            return RetryDecision::Final(RetryOutcome::Open);
        }
        let exhausted = RetryDecision::Final(RetryOutcome::Exhausted { attempts: self.attempts });
        if self.attempts >= policy.attempts {
            return exhausted;
        }
        // A stalled or empty answer costs a whole prompt each time: these get a single second chance.
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

/// 0.5 s doubling to 32 s, plus up to a quarter, after the given number of attempts.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Phase;

    fn error(kind: ErrorKind, retry_after: Option<u64>) -> Error {
        Error { retry_after: retry_after.map(Duration::from_secs), ..Error::new(kind, "x") }
    }

    #[test]
    fn waits_double_up_to_the_limit() {
        for (attempts, base) in [(1, 0.5), (2, 1.0), (3, 2.0), (7, 32.0), (40, 32.0)] {
            let seconds = backoff(attempts).as_secs_f64();
            assert!(seconds >= base && seconds <= base * 1.25, "{attempts}: {seconds}");
        }
    }

    #[test]
    fn the_budget_ends() {
        let policy = RetryPolicy { attempts: 3, ..RetryPolicy::default() };
        let mut state = RetryState { attempts: 2, ..RetryState::default() };
        assert!(matches!(state.decide(&error(ErrorKind::Overloaded, None), &policy), RetryDecision::Again(_)));
        state.attempts = 3;
        let exhausted = RetryDecision::Final(RetryOutcome::Exhausted { attempts: 3 });
        assert_eq!(state.decide(&error(ErrorKind::Overloaded, None), &policy), exhausted);
    }

    #[test]
    fn what_cannot_help_is_never_tried_again() {
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
    fn a_stall_or_an_empty_answer_gets_one_more_chance() {
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
    fn the_services_wish_is_honoured_up_to_the_limit() {
        let mut state = RetryState { attempts: 1, ..RetryState::default() };
        let policy = RetryPolicy::default();
        let asked = |seconds| error(ErrorKind::RateLimited, Some(seconds));
        assert_eq!(state.decide(&asked(8), &policy), RetryDecision::Again(Duration::from_secs(8)));
        assert!(matches!(state.decide(&asked(61), &policy), RetryDecision::Final(RetryOutcome::WaitTooLong { .. })));
        let unlimited = RetryPolicy { max_delay: Duration::ZERO, ..policy };
        assert_eq!(state.decide(&asked(61), &unlimited), RetryDecision::Again(Duration::from_secs(61)));
    }

    #[test]
    fn retry_after_is_read_in_all_its_forms() {
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
