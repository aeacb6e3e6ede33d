//! Limits of retries.

use std::time::Duration;

/// Limits of one turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Requests in total, the first one included.
    pub attempts: u32,
    /// Longest wait the service may ask for; zero means any.
    pub max_delay: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { attempts: 10, max_delay: Duration::from_secs(60) }
    }
}
