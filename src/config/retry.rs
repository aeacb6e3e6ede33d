//! Limits of retries.

use std::time::Duration;

use super::settings::Settings;

/// What may be tried again within one turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Requests in total, the first one included.
    pub attempts: u32,
    /// Longest wait that the service may ask for; zero means any.
    pub max_delay: Duration,
    /// Longest time for all attempts together; zero means any. `None` leaves it to [`Self::total_limit`].
    pub max_total: Option<Duration>,
}

impl RetryPolicy {
    /// Limit without a screen, where nobody sees that a turn waits.
    const HEADLESS_TOTAL: Duration = Duration::from_secs(120);

    /// Returns the longest time for all attempts of a turn together, `None` for no limit. Time that a turn waits for a quota window
    /// or for a free slot does not count.
    pub fn total_limit(&self, is_on_screen: bool) -> Option<Duration> {
        match self.max_total {
            Some(Duration::ZERO) => None,
            None if is_on_screen => None,
            limit => Some(limit.unwrap_or(Self::HEADLESS_TOTAL)),
        }
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Settings::default().retry_policy()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn total_limit_two_minutes_without_a_screen_unless_set() {
        let limit = |max_total: Option<u64>, screen: bool| {
            let max_total = max_total.map(Duration::from_secs);
            RetryPolicy { max_total, ..RetryPolicy::default() }.total_limit(screen).map(|limit| limit.as_secs())
        };
        assert_eq!((limit(None, false), limit(None, true)), (Some(120), None));
        assert_eq!((limit(Some(5), false), limit(Some(5), true)), (Some(5), Some(5)));
        assert_eq!((limit(Some(0), false), limit(Some(0), true)), (None, None));
    }
}
