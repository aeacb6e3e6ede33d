//! The settings file of the TypeScript extension, which is read as long as ours does not exist.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::keys::put;

/// `~/.pi/providers/kimi-coding/config.json` (docs/protocol.md#environment-variables).
pub fn file(home: &Path) -> PathBuf {
    home.join(".pi").join("providers").join("kimi-coding").join("config.json")
}

/// Values that the other extension writes out although nobody chose them.
const ITS_DEFAULTS: [(&str, u64); 2] = [("contextWindow", 262_144), ("maxTokens", 32_000)];

/// Our form of its settings. What we have no use for (its level map, its model flags) is left out silently: the file was never
/// written for us.
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
    fn choices_are_taken_over_and_its_defaults_are_not() {
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
