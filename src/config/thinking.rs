//! Reasoning settings of a request.

/// What the person wants beyond Pi's level.
#[derive(Debug, Clone, Default)]
pub struct ThinkingPreference {
    /// `KIMI_MODEL_THINKING_KEEP`: `all` unless changed; `None` leaves the field out.
    pub keep: Option<String>,
    /// `KIMI_MODEL_THINKING_EFFORT`: overrides the effort while thinking is on.
    pub effort: Option<String>,
}
