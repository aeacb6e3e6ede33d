//! Answers about quota and account.

use std::collections::HashSet;

use jiff::Zoned;
use kimi_code::services::quota_cache::Snapshot;
use kimi_code::services::quota_display::display;
use kimi_code::services::{account, usage};
use serde_json::Value;

/// Whatever the answer holds, what is shown is finite numbers and texts of one line.
pub fn usage(data: &[u8]) {
    let Ok(answer) = serde_json::from_slice::<Value>(data) else { return };
    if let Some(profile) = account::parse(&answer) {
        assert!(!profile.user_id.is_empty() && !profile.name.is_empty());
        shown(&serde_json::to_value(&profile).expect("JSON"));
    }
    if let Some(usage) = usage::parse(&answer) {
        for window in &usage.windows {
            assert!(window.used_ratio.is_none_or(|ratio| (0.0..=10.0).contains(&ratio)), "{window:?}");
            assert!(window.parts.iter().all(|part| part.used_ratio.is_finite()), "{window:?}");
        }
        assert!(usage.windows.len() <= 24);
        let ids: HashSet<&str> = usage.windows.iter().map(|window| window.id.as_str()).collect();
        assert_eq!(ids.len(), usage.windows.len(), "each window is one row");
        assert!(usage.parallel_limit.is_none_or(|limit| (1..=10_000).contains(&limit)));
        let snapshot = Snapshot { usage: Some(usage.clone()), fetched_at: Some(1), problem: None };
        shown(&serde_json::to_value(display(&snapshot, &Zoned::default())).expect("JSON"));
        shown(&serde_json::to_value(&usage).expect("JSON"));
    }
}

fn shown(value: &Value) {
    match value {
        Value::String(text) => assert!(!text.contains(char::is_control), "{text:?}"),
        Value::Array(items) => items.iter().for_each(shown),
        Value::Object(members) => members.values().for_each(shown),
        _ => {}
    }
}
