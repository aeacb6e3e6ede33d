//! Time limits of a request.

use std::time::Duration;

/// Pi's default for `timeoutMs`; any other value is the person's wish (docs/pi-contract.md#stream-options).
const PI_DEFAULT_TIMEOUT: Duration = Duration::from_secs(300);

/// Prompt size above which the first meaning may take twice as long.
const LONG_PROMPT_TOKENS: u64 = 200_000;

/// Time limits; `None` switches a clock off.
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
