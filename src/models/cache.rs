//! Stores the last model list of each account.
//!
//! Pi asks for its models before anything may touch the network, and an unreachable service must not empty the list. One file
//! holds all lists, each under its account, so a list is never shown for another deployment or plan.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::list::ListedModel;
use super::model::Model;
use super::prompt_cache_hints::CacheHint;
use crate::auth::AccountId;
use crate::storage::private_file::replace;
use crate::storage::remembered::Remembered;

/// File name in the state folder.
const FILE: &str = "catalog.json";

/// Most accounts that are stored; the oldest list goes first.
const MAX_ACCOUNTS: usize = 16;

/// What is stored of one account.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredList {
    /// API root of the deployment.
    pub root: String,
    /// When the service sent the list, in milliseconds since 1970; absent if it never did.
    pub fetched_at: Option<i64>,
    /// When the service was last asked, in milliseconds since 1970.
    #[serde(default)]
    pub checked_at: Option<i64>,
    /// The models, in the service's order.
    pub models: Vec<ListedModel>,
    /// When the service was last asked for cache hints, in milliseconds since 1970.
    #[serde(default)]
    pub hints_checked_at: Option<i64>,
    /// How long prompts stay in the cache, by model id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cache_hints: BTreeMap<String, CacheHint>,
}

impl StoredList {
    /// Returns the models in Pi's form.
    pub fn offered(&self) -> Vec<Model> {
        let with_hint = |entry: &ListedModel| {
            let hint = self.cache_hints.get(&entry.id);
            Model {
                cache_duration: hint.map(|hint| hint.seconds),
                min_tokens_to_hint: hint.and_then(|hint| hint.min_tokens),
                ..entry.model()
            }
        };
        self.models.iter().map(with_hint).collect()
    }
}

/// Lists that could not be written, by state folder and account name.
pub type UnsavedLists = Remembered<(Option<PathBuf>, String), StoredList, MAX_ACCOUNTS>;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Accounts {
    #[serde(default)]
    accounts: BTreeMap<String, serde_json::Value>,
}

/// Returns the last list that this credential got from this API root; without a credential, the newest one from there.
///
/// An unreadable file counts as missing. Without a state folder only lists of this process are known.
pub fn read(unsaved: &UnsavedLists, state: Option<&Path>, root: &str, credential: Option<&str>) -> Option<StoredList> {
    let stored = match credential {
        Some(credential) => read_account(unsaved, state, root, &AccountId::new(root, credential, state)),
        None => newest(unsaved, state, root, |_| true),
    };
    stored.filter(|stored| !stored.models.is_empty())
}

/// Returns what is stored of this account, also without a list.
pub fn read_account(
    unsaved: &UnsavedLists,
    state: Option<&Path>,
    root: &str,
    account: &AccountId,
) -> Option<StoredList> {
    newest(unsaved, state, root, |name| name == account.name())
}

fn newest(
    unsaved: &UnsavedLists,
    state: Option<&Path>,
    root: &str,
    matches: impl Fn(&str) -> bool,
) -> Option<StoredList> {
    let written = state.map(accounts).unwrap_or_default().accounts.into_iter();
    let written =
        written.filter(|(name, _)| matches(name)).filter_map(|(_, stored)| serde_json::from_value(stored).ok());
    let unsaved = unsaved.find(|(folder, name)| folder.as_deref() == state && matches(name)).into_iter();
    unsaved
        .chain(written)
        .filter(|stored: &StoredList| stored.root == root)
        .max_by_key(|stored| (stored.fetched_at, stored.checked_at, stored.hints_checked_at))
}

/// Stores a list in the file or, where that cannot be written, in this process.
pub fn store(unsaved: &UnsavedLists, state: Option<&Path>, account: &AccountId, stored: StoredList) {
    let key = (state.map(Path::to_owned), account.name().to_owned());
    match state.map(|state| write(state, account, &stored)) {
        Some(Ok(())) => unsaved.remove(&key),
        failed => {
            if let Some(Err(error)) = failed {
                tracing::info!(%error, "the model list cannot be written");
            }
            unsaved.insert(key, stored);
        }
    }
}

/// Writes a list. Of two processes that write at the same time, one loses its list; both were equally new.
pub fn write(state: &Path, owner: &AccountId, stored: &StoredList) -> std::io::Result<()> {
    let Accounts { accounts: mut all } = accounts(state);
    all.remove(owner.name());
    while all.len() >= MAX_ACCOUNTS {
        let oldest = all.iter().min_by_key(|(_, stored)| stored["fetchedAt"].as_i64()).map(|(name, _)| name.clone());
        let Some(oldest) = oldest else { break };
        all.remove(&oldest);
    }
    all.insert(owner.name().to_owned(), serde_json::to_value(stored)?);
    replace(&state.join(FILE), &serde_json::to_vec_pretty(&Accounts { accounts: all })?)
}

fn accounts(state: &Path) -> Accounts {
    fs::read(state.join(FILE)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::list::parse;

    fn stored(root: &str, id: &str, fetched_at: i64) -> StoredList {
        let models = parse(format!(r#"[{{"id": "{id}"}}]"#).as_bytes()).unwrap();
        StoredList { root: root.to_owned(), fetched_at: Some(fetched_at), models, ..StoredList::default() }
    }

    fn read(state: &Path, root: &str, credential: Option<&str>) -> Option<StoredList> {
        super::read(&UnsavedLists::default(), Some(state), root, credential)
    }

    fn write(state: &Path, credential: &str, stored: &StoredList) -> std::io::Result<()> {
        super::write(state, &AccountId::new(&stored.root, credential, Some(state)), stored)
    }

    #[test]
    fn stored_lists_stay_apart_by_account_and_deployment() {
        let state = tempfile::tempdir().unwrap();
        let (a, b) = ("https://a", "https://b");
        write(state.path(), "sk-1", &stored(a, "k3", 1)).unwrap();
        write(state.path(), "sk-2", &stored(a, "k4", 2)).unwrap();
        write(state.path(), "sk-1", &stored(b, "k5", 3)).unwrap();
        assert_eq!(read(state.path(), a, Some("sk-1")), Some(stored(a, "k3", 1)));
        assert_eq!(read(state.path(), a, Some("sk-2")), Some(stored(a, "k4", 2)));
        assert_eq!(read(state.path(), b, Some("sk-1")), Some(stored(b, "k5", 3)));
        assert_eq!(read(state.path(), a, Some("sk-3")), None, "another account's list");
        assert_eq!(
            read(state.path(), a, None),
            Some(stored(a, "k4", 2)),
            "the newest one, as long as the account is unknown"
        );
        assert_eq!(read(state.path(), "https://c", None), None);
        assert!(!fs::read_to_string(state.path().join(FILE)).unwrap().contains("sk-"));
    }

    #[test]
    fn list_that_cannot_be_written_lives_as_long_as_the_process() {
        let state = tempfile::tempdir().unwrap();
        let closed = state.path().join("file");
        let unsaved = UnsavedLists::default();
        let read = |root, credential| super::read(&unsaved, Some(&closed), root, credential);
        fs::write(&closed, "in the way").unwrap();
        store(
            &unsaved,
            Some(&closed),
            &AccountId::new("https://a", "sk-1", Some(&closed)),
            stored("https://a", "k4", 2),
        );
        assert_eq!(read("https://a", Some("sk-1")), Some(stored("https://a", "k4", 2)));
        assert_eq!(read("https://a", None), Some(stored("https://a", "k4", 2)));
        assert_eq!(read("https://a", Some("sk-2")), None);
        assert_eq!(read("https://b", None), None);
        fs::remove_file(&closed).unwrap();
        store(
            &unsaved,
            Some(&closed),
            &AccountId::new("https://a", "sk-1", Some(&closed)),
            stored("https://a", "k5", 3),
        );
        assert_eq!(read("https://a", Some("sk-1")), Some(stored("https://a", "k5", 3)));
        assert!(closed.join(FILE).exists());
    }

    #[test]
    fn oldest_lists_are_dropped_and_a_broken_file_counts_as_missing() {
        let state = tempfile::tempdir().unwrap();
        for n in 0..20 {
            write(state.path(), &format!("sk-{n}"), &stored("https://a", "k3", n)).unwrap();
        }
        assert_eq!(read(state.path(), "https://a", Some("sk-0")), None);
        assert!(read(state.path(), "https://a", Some("sk-19")).is_some());
        for broken in [r#"{"accounts": {"x": {"fetchedAt": 1, "models": [{"id""#, r#"{"accounts": {"x": 5}}"#, "[]", ""]
        {
            fs::write(state.path().join(FILE), broken).unwrap();
            assert_eq!(read(state.path(), "https://a", None), None, "{broken}");
        }
    }
}
