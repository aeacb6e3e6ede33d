//! The last catalog of each deployment, on disk.
//!
//! Pi asks for its list of models before anything may touch the network, and a dead network must not empty the list. One file
//! for all deployments: the list of one is never shown for another.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::live::Entry;
use crate::auth::atomic::replace;

/// File name in our state folder.
const FILE: &str = "catalog.json";

/// Deployments that are remembered; the oldest ones go first.
const MAX_SLOTS: usize = 16;

/// What is kept of one deployment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stored {
    /// Milliseconds since 1970.
    pub fetched_at: i64,
    /// The models, in the service's order.
    pub models: Vec<Entry>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Slots {
    #[serde(default)]
    slots: BTreeMap<String, serde_json::Value>,
}

/// The last catalog of this API root. A file that cannot be read is as good as none.
pub fn read(state: &Path, root: &str) -> Option<Stored> {
    let stored = slots(state).slots.remove(root)?;
    let stored: Stored = serde_json::from_value(stored).ok()?;
    (!stored.models.is_empty()).then_some(stored)
}

/// Keeps a catalog. Two processes that write at once lose one of two lists that are equally new.
pub fn write(state: &Path, root: &str, stored: &Stored) -> std::io::Result<()> {
    let mut all = slots(state);
    all.slots.insert(root.to_owned(), serde_json::to_value(stored)?);
    while all.slots.len() > MAX_SLOTS {
        let oldest = all.slots.iter().min_by_key(|(_, slot)| slot["fetchedAt"].as_i64()).map(|(root, _)| root.clone());
        let Some(oldest) = oldest else { break };
        all.slots.remove(&oldest);
    }
    replace(&state.join(FILE), &serde_json::to_vec_pretty(&all)?)
}

fn slots(state: &Path) -> Slots {
    fs::read(state.join(FILE)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::live::parse;

    #[test]
    fn each_deployment_has_its_own_list_and_a_broken_file_is_none() {
        let state = tempfile::tempdir().unwrap();
        let stored = |id: &str, at| Stored {
            fetched_at: at,
            models: parse(format!(r#"[{{"id": "{id}"}}]"#).as_bytes()).unwrap(),
        };
        write(state.path(), "https://a", &stored("k3", 1)).unwrap();
        write(state.path(), "https://b", &stored("k4", 2)).unwrap();
        assert_eq!(read(state.path(), "https://a"), Some(stored("k3", 1)));
        assert_eq!(read(state.path(), "https://c"), None);
        for n in 0..20 {
            write(state.path(), &format!("https://{n}"), &stored("k3", 10 + n)).unwrap();
        }
        assert_eq!(read(state.path(), "https://a"), None, "the oldest went");
        assert!(read(state.path(), "https://19").is_some());
        fs::write(state.path().join(FILE), r#"{"slots": {"https://a": {"fetchedAt": 1, "models": [{"id""#).unwrap();
        assert_eq!(read(state.path(), "https://a"), None);
    }
}
