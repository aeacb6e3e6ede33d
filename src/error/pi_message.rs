//! The wording that makes Pi do the right thing.
//!
//! Pi decides by matching words in `errorMessage` whether it compacts the conversation, asks again or stops
//! (docs/pi-contract.md#error-words). Its patterns include bare numbers such as `500`, which a token count or a trace id may
//! contain by accident.

use std::time::Duration;

use super::{Error, ErrorKind};
use crate::display_text::duration;

/// What is left to try once an error leaves the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryOutcome {
    /// We have not retried; the reader of the error may.
    Open,
    /// We have tried again, to the end.
    Exhausted {
        /// Requests that were sent.
        attempts: u32,
    },
    /// The time for all attempts together is used up.
    OutOfTime {
        /// Requests that were sent.
        attempts: u32,
        /// What is allowed.
        allowed: Duration,
    },
    /// The service wants a longer pause than the person allows.
    WaitTooLong {
        /// What the service asked for.
        asked: Duration,
        /// What is allowed.
        allowed: Duration,
    },
}

/// Words and numbers that Pi takes for something that passes.
const TRANSIENT: [&str; 22] = [
    "429",
    "500",
    "502",
    "503",
    "504",
    "520",
    "524",
    "overloaded",
    "rate limit",
    "rate_limit",
    "ratelimit",
    "too many requests",
    "server error",
    "server_error",
    "internal error",
    "internal_error",
    "network error",
    "connection error",
    "timeout",
    "timed out",
    "terminated",
    "retry delay",
];

/// Words that Pi takes for final, whatever else the text says.
const FINAL: [&str; 4] = ["out of budget", "quota exceeded", "billing", "available balance"];

impl Error {
    /// The message for Pi's `errorMessage`. The trace id stays out of it: it is full of digits.
    pub fn message_for_pi(&self, retry_outcome: RetryOutcome) -> String {
        let text = match self.kind {
            ErrorKind::QuotaExhausted => format!("quota exceeded: {}", self.message),
            ErrorKind::ContextOverflow if !self.message.contains("exceeded model token limit") => {
                format!("context_length_exceeded: {}", self.message)
            }
            ErrorKind::PayloadTooLarge => format!("request_too_large: {}", self.message),
            _ => self.message.clone(),
        };
        if !self.kind.retryable() {
            let compacts = matches!(self.kind, ErrorKind::ContextOverflow | ErrorKind::PayloadTooLarge);
            return if !compacts && reads_as_transient(&text) {
                format!("{text} (final: a retry is out of budget)")
            } else {
                text
            };
        }
        match retry_outcome {
            RetryOutcome::Exhausted { attempts: 2.. }
            | RetryOutcome::OutOfTime { .. }
            | RetryOutcome::WaitTooLong { .. } => {
                format!("{}: {text}", retry_outcome.verdict())
            }
            RetryOutcome::Open | RetryOutcome::Exhausted { .. } => text,
        }
    }
}

impl RetryOutcome {
    fn verdict(self) -> String {
        match self {
            Self::Open => String::new(),
            Self::Exhausted { attempts } => format!("Gave up after {attempts} attempts, retries are out of budget"),
            Self::OutOfTime { attempts, allowed } => {
                let times = if attempts == 1 { "attempt" } else { "attempts" };
                let allowed = duration(allowed);
                format!(
                    "Gave up after {attempts} {times} within {allowed} (retry.maxTotalMs), retries are out of budget"
                )
            }
            Self::WaitTooLong { asked, allowed } => format!(
                "Kimi asks to wait {} before the next request, and {} are allowed (retry.provider.maxRetryDelayMs): waiting is \
                 out of budget",
                duration(asked),
                duration(allowed),
            ),
        }
    }
}

fn reads_as_transient(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let any = |words: &[&str]| words.iter().any(|word| text.contains(word));
    any(&TRANSIENT) && !any(&FINAL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::from_response;

    const EXHAUSTED: RetryOutcome = RetryOutcome::Exhausted { attempts: 10 };

    fn answer(status: u16, message: &str) -> Error {
        let body = serde_json::json!({ "error": { "message": message } }).to_string();
        from_response(status, &body, None, None)
    }

    /// Pi retries by matching words (docs/pi-contract.md#error-words), so an error that was retried to the end must be final
    /// there.
    #[test]
    fn a_used_up_retry_budget_reads_as_final() {
        let error = answer(429, "too many requests");
        assert!(error.message_for_pi(EXHAUSTED).contains("out of budget"));
        assert!(!error.message_for_pi(RetryOutcome::Open).contains("out of budget"));
        assert!(!error.message_for_pi(RetryOutcome::Exhausted { attempts: 1 }).contains("out of budget"));
        let wait = RetryOutcome::WaitTooLong { asked: Duration::from_secs(600), allowed: Duration::from_secs(60) };
        let text = error.message_for_pi(wait);
        assert!(text.contains("wait 10 min") && text.contains("60 s are allowed") && text.contains("out of budget"));
    }

    #[test]
    fn a_number_in_a_final_error_does_not_make_pi_try_again() {
        let text = answer(400, "max_tokens must be at most 65500").message_for_pi(RetryOutcome::Open);
        assert!(text.contains("out of budget"), "{text}");
        assert_eq!(answer(404, "no such model").message_for_pi(RetryOutcome::Open), "404 no such model");
    }

    #[test]
    fn quota_and_overflow_carry_the_words_pi_acts_on() {
        let quota =
            from_response(429, r#"{"error":{"message":"x","type":"exceeded_current_quota_error"}}"#, None, None);
        assert!(quota.message_for_pi(RetryOutcome::Open).contains("quota exceeded"));
        let overflow = answer(400, "maximum context reached, 65500 tokens").message_for_pi(RetryOutcome::Open);
        assert!(overflow.contains("context_length_exceeded") && !overflow.contains("out of budget"));
    }
}
