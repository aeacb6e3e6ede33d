//! Limits of retries.

use std::time::Duration;

use super::settings::{Settings, limit};

/// What may be tried again within one turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Requests in total, the first one included.
    pub attempts: u32,
    /// Longest wait that the service may ask for; zero means any.
    pub max_delay: Duration,
    /// Longest time for all attempts and waits together; absent means any.
    pub max_total: Option<Duration>,
}

impl RetryPolicy {
    /// Limit of `max_total` without a screen, where no user sees that a turn waits.
    const HEADLESS_TOTAL: Duration = Duration::from_secs(120);
}

impl Default for RetryPolicy {
    /// Returns the default on a screen.
    fn default() -> Self {
        Settings::default().retry_policy(true)
    }
}

impl Settings {
    /// Returns what may be tried again. Where no user sees that a turn waits, its time is limited.
    pub fn retry_policy(&self, has_screen: bool) -> RetryPolicy {
        RetryPolicy {
            attempts: self.retry.attempts.max(1),
            max_delay: Duration::from_millis(self.retry.max_delay_ms),
            max_total: match self.retry.max_total_ms {
                Some(millis) => limit(millis),
                None => (!has_screen).then_some(RetryPolicy::HEADLESS_TOTAL),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn total_limit_two_minutes_without_a_screen_unless_set() {
        let limit = |max_total_ms: Option<u64>, has_screen: bool| {
            let mut settings = Settings::default();
            settings.retry.max_total_ms = max_total_ms;
            settings.retry_policy(has_screen).max_total.map(|limit| limit.as_millis())
        };
        assert_eq!((limit(None, false), limit(None, true)), (Some(120_000), None));
        assert_eq!((limit(Some(5), false), limit(Some(5), true)), (Some(5), Some(5)));
        assert_eq!((limit(Some(0), false), limit(Some(0), true)), (None, None));
    }
}
