//! The settings file of the TypeScript extension, which is read until ours exists.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::keys::put;

/// Returns `~/.pi/providers/kimi-coding/config.json` (docs/protocol.md#environment-variables).
pub fn file(home: &Path) -> PathBuf {
    home.join(".pi").join("providers").join("kimi-coding").join("config.json")
}

/// Defaults that the other extension writes out.
const ITS_DEFAULTS: [(&str, u64); 2] = [("contextWindow", 262_144), ("maxTokens", 32_000)];

/// Converts its settings to ours. Settings without a counterpart (its level map, its model flags) are left out silently, because
/// the file was not written for this package.
pub fn translate(theirs: &Value) -> Value {
    let mut ours = json!({});
    let mut take = |from: &[&str], to: &[&str]| {
        let value = from.iter().try_fold(theirs, |place, name| place.get(*name));
        let chosen = |value: &&Value| {
            !ITS_DEFAULTS.iter().any(|(name, number)| from.last() == Some(name) && value.as_u64() == Some(*number))
        };
        if let Some(value) = value.filter(chosen) {
            put(&mut ours, to, value.clone());
        }
    };
    take(&["protocol"], &["protocol"]);
    take(&["uploads", "thresholdBytes"], &["uploads", "thresholdBytes"]);
    for tool in ["moonshot_search", "moonshot_fetch", "kimi_datasource"] {
        for member in ["enabled", "default_collapsed"] {
            take(&["tools", tool, member], &["tools", tool, member]);
        }
    }
    take(&["model", "contextWindow"], &["model", "contextWindow"]);
    take(&["model", "maxTokens"], &["model", "maxTokens"]);
    take(&["model", "thinkingKeep"], &["model", "thinking", "keep"]);
    for member in ["temperature", "topP", "maxCompletionTokens"] {
        take(&["model", "generation", member], &["model", member]);
    }
    ours
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legacy_file_choices_taken_over_defaults_not() {
        let theirs = json!({
            "model": { "contextWindow": 262_144, "maxTokens": 64_000, "thinkingKeep": "last", "reasoningMap": {},
                       "generation": { "topP": 0.9 } },
            "tools": { "moonshot_search": { "enabled": true } },
            "uploads": { "thresholdBytes": 5 },
        });
        assert_eq!(
            translate(&theirs),
            json!({
                "uploads": { "thresholdBytes": 5 },
                "tools": { "moonshot_search": { "enabled": true } },
                "model": { "maxTokens": 64_000, "thinking": { "keep": "last" }, "topP": 0.9 },
            })
        );
        assert_eq!(translate(&json!([1])), json!({}));
    }
}
