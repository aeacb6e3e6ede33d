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
    /// Longest time for all attempts and waits together; absent means any.
    pub max_total: Option<Duration>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Settings::default().retry_policy()
    }
}
