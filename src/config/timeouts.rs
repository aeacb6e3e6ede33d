//! Time limits of a request.

use std::time::Duration;

use super::settings::{Settings, limit};

/// Time limits of a request; `None` means no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeoutLimits {
    /// Connecting: DNS, TCP, proxy and TLS.
    pub connect: Option<Duration>,
    /// Until the response head.
    pub headers: Option<Duration>,
    /// From the response head to the first content.
    pub first: Option<Duration>,
    /// The same for maximal effort and very long prompts.
    pub first_long: Option<Duration>,
    /// Silence within text or a tool call.
    pub idle_text: Option<Duration>,
    /// Silence within reasoning.
    pub idle_thinking: Option<Duration>,
}

impl Default for TimeoutLimits {
    fn default() -> Self {
        Settings::default().timeout_limits()
    }
}

impl TimeoutLimits {
    /// Default of [`Self::first`].
    const FIRST: Duration = Duration::from_secs(300);

    /// Default of [`Self::first_long`].
    const FIRST_LONG: Duration = Duration::from_secs(600);
}

impl Settings {
    /// Returns the timeouts.
    pub fn timeout_limits(&self) -> TimeoutLimits {
        let limits = &self.limits;
        TimeoutLimits {
            connect: limit(limits.connect_ms),
            headers: limit(limits.headers_ms),
            first: limits.first_ms.map_or(Some(TimeoutLimits::FIRST), limit),
            first_long: limits.first_ms.map_or(Some(TimeoutLimits::FIRST_LONG), limit),
            idle_text: limit(limits.gap_ms),
            idle_thinking: limit(limits.thinking_gap_ms),
        }
    }
}
