//! The list of models, from the service and from disk.

use std::collections::HashSet;
use std::fs;

use kimi_code::auth::AccountId;
use kimi_code::config::Settings;
use kimi_code::models::cache::{StoredList, UnsavedLists, read, write};
use kimi_code::models::list::parse;
use kimi_code::models::prompt_cache_hints;
use kimi_code::models::user_overrides::with_overrides;
use kimi_code::models::{Model, fallback};

const ROOT: &str = "https://api.kimi.com/coding";
const KEY: &str = "sk-kimi-fuzz";

/// Every listed model is valid, and the written list is read back unchanged.
pub fn catalog(data: &[u8]) {
    let unsaved = UnsavedLists::default();
    let scratch = tempfile::tempdir().expect("a folder");
    fs::write(scratch.path().join("catalog.json"), data).expect("a file");
    if let Some(stored) = read(&unsaved, Some(scratch.path()), ROOT, None) {
        offered(&stored);
    }
    for hint in prompt_cache_hints::parse(data).values() {
        assert!((1..=604_800).contains(&hint.seconds), "{hint:?}");
    }
    let Ok(models) = parse(data) else { return };
    let stored = StoredList { root: ROOT.to_owned(), fetched_at: Some(1), models, ..StoredList::default() };
    offered(&stored);
    write(scratch.path(), &AccountId::new(ROOT, KEY, None), &stored).expect("a list is written over any file");
    assert_eq!(read(&unsaved, Some(scratch.path()), ROOT, Some(KEY)).as_ref(), Some(&stored));
}

fn offered(stored: &StoredList) {
    let models: Vec<Model> = stored.offered().into_iter().chain(fallback()).collect();
    for model in with_overrides(models, &Settings::default(), None) {
        assert!(model.max_tokens <= model.context_window, "{model:?}");
        assert!(serde_json::to_value(&model).is_ok_and(|model| model["cost"]["input"].is_number()));
    }
    let ids: HashSet<&str> = stored.models.iter().map(|entry| entry.id.as_str()).collect();
    assert_eq!(ids.len(), stored.models.len(), "no model twice");
}
