//! Reasoning settings of a request.

use super::settings::Settings;

/// What the person wants beyond Pi's level.
#[derive(Debug, Clone, Default)]
pub struct ThinkingPreference {
    /// `KIMI_MODEL_THINKING_KEEP`: `all` unless changed; `None` leaves the field out.
    pub keep: Option<String>,
    /// `KIMI_MODEL_THINKING_EFFORT`: overrides the effort while thinking is on.
    pub effort: Option<String>,
}

impl Settings {
    /// Returns the reasoning settings of a model.
    pub fn thinking(&self, model: &str) -> ThinkingPreference {
        let overrides = self.overrides(model).thinking;
        ThinkingPreference { keep: overrides.keep.filter(|keep| keep != "none"), effort: overrides.effort }
    }
}
