//! Refresh tokens that the service has refused lately. Programs that queue for the same dead login, each of which would have to wait
//! for the service, believe the first one.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::auth::account_id::hash;
use crate::storage::clock::{age, now_ms};
use crate::storage::private_file::replace;

/// File of the refusals, in our state folder: hashes of tokens and when they were refused, in milliseconds since 1970.
const FILE: &str = "refused-tokens.json";

/// How long a refusal is believed without asking the service again.
const BELIEVED: Duration = Duration::from_secs(60);

/// Refusals that are kept.
const MAX_REFUSALS: usize = 16;

type Refusals = Vec<(String, i64)>;

/// Whether the service has just refused this token.
pub(super) fn is_recent(state: Option<&Path>, refresh_token: &str) -> bool {
    let hash = hash(refresh_token);
    state.is_some_and(|state| read(state).iter().any(|(token, at)| *token == hash && age(Some(*at)) < BELIEVED))
}

/// Records that the service has refused this token. Where nothing can be written, everybody asks.
pub(super) fn record(state: Option<&Path>, refresh_token: &str) {
    let Some(state) = state else { return };
    let hash = hash(refresh_token);
    let mut refusals = read(state);
    refusals.retain(|(token, at)| *token != hash && age(Some(*at)) < BELIEVED);
    refusals.push((hash, now_ms()));
    let surplus = refusals.len().saturating_sub(MAX_REFUSALS);
    refusals.drain(..surplus);
    let bytes = serde_json::to_vec(&refusals).map_err(std::io::Error::from);
    if let Err(error) = bytes.and_then(|bytes| replace(&state.join(FILE), &bytes)) {
        tracing::info!(%error, "the refused token cannot be recorded");
    }
}

/// An unreadable file counts as empty.
fn read(state: &Path) -> Refusals {
    fs::read(state.join(FILE)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_found_by_others_for_a_minute_and_hold_no_token() {
        let folder = tempfile::tempdir().unwrap();
        let state = Some(folder.path());
        record(state, "token-dead");
        assert!(is_recent(state, "token-dead") && !is_recent(state, "token-alive"));
        let path = folder.path().join(FILE);
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains("token-dead"), "{text}");
        for at in [now_ms() - 61_000, now_ms() + 61_000] {
            fs::write(&path, serde_json::to_vec(&[(hash("token-dead"), at)]).unwrap()).unwrap();
            assert!(!is_recent(state, "token-dead"), "{at}");
        }
    }

    #[test]
    fn refusals_damaged_file_or_no_folder_counts_as_none() {
        let state = tempfile::tempdir().unwrap();
        fs::write(state.path().join(FILE), "{ broken").unwrap();
        assert!(!is_recent(Some(state.path()), "token"));
        record(Some(state.path()), "token");
        assert!(is_recent(Some(state.path()), "token"));
        record(None, "token");
        assert!(!is_recent(None, "token"));
    }

    #[test]
    fn refusals_number_is_bounded() {
        let state = tempfile::tempdir().unwrap();
        (0..3 * MAX_REFUSALS).for_each(|at| record(Some(state.path()), &at.to_string()));
        assert_eq!(read(state.path()).len(), MAX_REFUSALS);
    }
}
