//! Time limits of a request.

use std::time::Duration;

use super::settings::Settings;

/// Pi's default for `timeoutMs`; any other value was set by the user (docs/pi-contract.md#stream-options).
const PI_DEFAULT_TIMEOUT: Duration = Duration::from_secs(300);

/// Prompt size above which the first content may take twice as long, in tokens.
const LONG_PROMPT_TOKENS: u64 = 200_000;

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
    pub(super) const FIRST: Duration = Duration::from_secs(300);

    /// Default of [`Self::first_long`].
    pub(super) const FIRST_LONG: Duration = Duration::from_secs(600);

    /// Applies Pi's `timeoutMs`: a value other than Pi's default caps every timeout of the answer, zero switches them off.
    pub fn capped(mut self, pi_timeout: Option<Duration>) -> Self {
        let Some(cap) = pi_timeout.filter(|cap| *cap != PI_DEFAULT_TIMEOUT) else { return self };
        for timeout in
            [&mut self.headers, &mut self.first, &mut self.first_long, &mut self.idle_text, &mut self.idle_thinking]
        {
            *timeout = if cap.is_zero() { None } else { Some(timeout.map_or(cap, |limit| limit.min(cap))) };
        }
        self
    }

    /// Returns the limit for the first content of a request.
    pub fn first_for(&self, effort: Option<&str>, prompt_tokens: u64) -> Option<Duration> {
        if effort == Some("max") || prompt_tokens > LONG_PROMPT_TOKENS { self.first_long } else { self.first }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pi_timeout_default_changes_nothing_others_cap() {
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
    fn first_content_max_effort_and_long_prompts_get_longer() {
        let limits = TimeoutLimits::default();
        assert_eq!(limits.first_for(Some("high"), 1000), limits.first);
        assert_eq!(limits.first_for(Some("max"), 1000), limits.first_long);
        assert_eq!(limits.first_for(None, 200_001), limits.first_long);
    }
}
