//! The last catalog of each account, on disk.
//!
//! Pi asks for its list of models before anything may touch the network, and a dead network must not empty the list. One file
//! for all: the list of one deployment or plan is never shown for another. Where nothing can be written the process remembers.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::list::Entry;
use crate::auth::AccountId;
use crate::storage::private_file::replace;

/// File name in our state folder.
const FILE: &str = "catalog.json";

/// Accounts that are remembered; the oldest ones go first.
const MAX_ACCOUNTS: usize = 16;

/// What is kept of one account.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stored {
    /// API root of the deployment.
    pub root: String,
    /// Milliseconds since 1970.
    pub fetched_at: i64,
    /// The models, in the service's order.
    pub models: Vec<Entry>,
}

/// Lists that could not be written, by state folder and account.
static UNWRITTEN: Mutex<BTreeMap<(PathBuf, String), Stored>> = Mutex::new(BTreeMap::new());

#[derive(Debug, Default, Serialize, Deserialize)]
struct Accounts {
    #[serde(default)]
    accounts: BTreeMap<String, serde_json::Value>,
}

/// The last catalog that this credential got from this API root; the newest one from there where it is not known yet who will ask.
/// A file that cannot be read is as good as none.
pub fn read(state: &Path, root: &str, credential: Option<&str>) -> Option<Stored> {
    let mut all = accounts(state).accounts;
    let usable = |stored: serde_json::Value| {
        let stored: Stored = serde_json::from_value(stored).ok()?;
        (stored.root == root && !stored.models.is_empty()).then_some(stored)
    };
    let owner = credential.map(|credential| AccountId::new(root, credential, Some(state)));
    let written = match &owner {
        Some(owner) => all.remove(owner.name()).and_then(usable),
        None => all.into_values().filter_map(usable).max_by_key(|stored| stored.fetched_at),
    };
    let unwritten = UNWRITTEN.lock().unwrap_or_else(PoisonError::into_inner);
    let ours = |(folder, name): &(PathBuf, String)| {
        folder == state && owner.as_ref().is_none_or(|owner| owner.name() == name.as_str())
    };
    let remembered = unwritten.iter().filter(|(place, stored)| ours(place) && stored.root == root);
    remembered.map(|(_, stored)| stored.clone()).chain(written).max_by_key(|stored| stored.fetched_at)
}

/// Keeps a catalog, if only for this process.
pub fn keep(state: &Path, credential: &str, stored: Stored) {
    let owner = AccountId::new(&stored.root, credential, Some(state));
    let written = write(state, &owner, &stored);
    let place = (state.to_owned(), owner.name().to_owned());
    let mut unwritten = UNWRITTEN.lock().unwrap_or_else(PoisonError::into_inner);
    unwritten.remove(&place);
    if let Err(error) = written {
        tracing::debug!(%error, "the model list cannot be written");
        if unwritten.len() >= MAX_ACCOUNTS {
            unwritten.pop_first();
        }
        unwritten.insert(place, stored);
    }
}

/// Writes a catalog. Two processes that write at once lose one of two lists that are equally new.
pub fn write(state: &Path, owner: &AccountId, stored: &Stored) -> std::io::Result<()> {
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

    fn stored(root: &str, id: &str, fetched_at: i64) -> Stored {
        let models = parse(format!(r#"[{{"id": "{id}"}}]"#).as_bytes()).unwrap();
        Stored { root: root.to_owned(), fetched_at, models }
    }

    fn write(state: &Path, credential: &str, stored: &Stored) -> std::io::Result<()> {
        super::write(state, &AccountId::new(&stored.root, credential, Some(state)), stored)
    }

    #[test]
    fn each_account_and_deployment_has_its_own_list() {
        let state = tempfile::tempdir().unwrap();
        let (a, b) = ("https://a", "https://b");
        write(state.path(), "sk-1", &stored(a, "k3", 1)).unwrap();
        write(state.path(), "sk-2", &stored(a, "k4", 2)).unwrap();
        write(state.path(), "sk-1", &stored(b, "k5", 3)).unwrap();
        assert_eq!(read(state.path(), a, Some("sk-1")), Some(stored(a, "k3", 1)));
        assert_eq!(read(state.path(), a, Some("sk-2")), Some(stored(a, "k4", 2)));
        assert_eq!(read(state.path(), b, Some("sk-1")), Some(stored(b, "k5", 3)));
        assert_eq!(read(state.path(), a, Some("sk-3")), None, "nobody else's list");
        assert_eq!(read(state.path(), a, None), Some(stored(a, "k4", 2)), "the newest, as long as nobody is known");
        assert_eq!(read(state.path(), "https://c", None), None);
        assert!(!fs::read_to_string(state.path().join(FILE)).unwrap().contains("sk-"));
    }

    #[test]
    fn a_list_that_cannot_be_written_is_known_until_the_process_ends() {
        let state = tempfile::tempdir().unwrap();
        let closed = state.path().join("file");
        fs::write(&closed, "in the way").unwrap();
        keep(&closed, "sk-1", stored("https://a", "k4", 2));
        assert_eq!(read(&closed, "https://a", Some("sk-1")), Some(stored("https://a", "k4", 2)));
        assert_eq!(read(&closed, "https://a", None), Some(stored("https://a", "k4", 2)));
        assert_eq!(read(&closed, "https://a", Some("sk-2")), None);
        assert_eq!(read(&closed, "https://b", None), None);
        fs::remove_file(&closed).unwrap();
        keep(&closed, "sk-1", stored("https://a", "k5", 3));
        assert_eq!(read(&closed, "https://a", Some("sk-1")), Some(stored("https://a", "k5", 3)));
        assert!(closed.join(FILE).exists());
    }

    #[test]
    fn the_oldest_lists_go_and_a_broken_file_is_none() {
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
